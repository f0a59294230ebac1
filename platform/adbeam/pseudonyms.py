"""Pseudonyms of users: the keyed hash under which serving logs them, and by which others find them again."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import uuid
from pathlib import Path

KEY_FILE = ".user_key"


def pseudonym(key: bytes, user_id: str) -> str:
    """HMAC-SHA256 of a user id, 32 hex digits."""
    return hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()[:32]


def user_key(folder: Path, env: str) -> bytes:
    """The HMAC secret: from the environment, or made once and kept beside the log, readable by its owner only."""
    if given := os.environ.get(env):
        return given.encode()
    path = folder / KEY_FILE
    if path.is_file():
        return path.read_bytes()
    partial = folder / f"{KEY_FILE}.{uuid.uuid4().hex[:8]}"
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(secrets.token_hex(32).encode())
    try:
        os.link(partial, path)  # fails when another replica was first: then its key counts
    except FileExistsError:
        pass
    finally:
        partial.unlink()
    return path.read_bytes()
