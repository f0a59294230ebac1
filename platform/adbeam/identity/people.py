"""Ids of people: which mean nobody, and what becomes of long ones."""

from __future__ import annotations

import hashlib

NOBODY_WORDS = frozenset(
    ("", "0", "-1", "null", "(null)", "<null>", "nil", "none", "nan", "na", "n/a", "undefined", "unknown",
     "00000000-0000-0000-0000-000000000000", "00000000000000000000000000000000")
)  # fmt: skip
"""What devices and exporters write as a user id where nobody is known, in lower case and without outer blanks: as ids
they would join strangers into one history."""

USER_ID_MAX = 128
"""Characters of a user id that is kept as it is; a longer one is its digest."""
USER_ID_READ = 4096
"""Characters of a user id that is read at all."""


def is_nobody(user_id: str) -> bool:
    """Whether a user id means that nobody is known; case and outer blanks do not matter."""
    return user_id.strip().lower() in NOBODY_WORDS


def digest_of(user_id: str) -> str:
    """`sha256-` and 64 hex digits: what stands for a user id of more than USER_ID_MAX characters."""
    return "sha256-" + hashlib.sha256(user_id.encode()).hexdigest()


def known_user(user_id: str | None) -> str | None:
    """The user as histories and logs know it: None for nobody, the digest of an id of more than USER_ID_MAX
    characters, else the id itself."""
    if user_id is None or is_nobody(user_id):
        return None
    return user_id if len(user_id) <= USER_ID_MAX else digest_of(user_id)
