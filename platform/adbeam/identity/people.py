"""Ids of people: which mean nobody, and what becomes of long ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

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


def words_of(declared: Iterable[str] | None) -> frozenset[str]:
    """The words for nobody that a log declares (`logs.files.nobody_words`), as they are compared: blank is always one,
    and None means NOBODY_WORDS."""
    return NOBODY_WORDS if declared is None else frozenset(("", *(word.strip().lower() for word in declared)))


def is_nobody(user_id: str, words: frozenset[str] = NOBODY_WORDS) -> bool:
    """Whether a user id means that nobody is known; case and outer blanks do not matter."""
    return user_id.strip().lower() in words


def digest_of(user_id: str) -> str:
    """`sha256-` and 64 hex digits: what stands for a user id of more than USER_ID_MAX characters."""
    return "sha256-" + hashlib.sha256(user_id.encode()).hexdigest()


def known_user(user_id: str | None, words: frozenset[str] = NOBODY_WORDS) -> str | None:
    """The user as histories and logs know it: None for nobody, the digest of an id of more than USER_ID_MAX
    characters, else the id itself."""
    if user_id is None or is_nobody(user_id, words):
        return None
    return user_id if len(user_id) <= USER_ID_MAX else digest_of(user_id)
