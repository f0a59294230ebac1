"""The one error a user meets: which field, which value, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can put right. The command line prints it without a stack trace and exits with 2."""

    def __init__(self, what: str, *, field: str | None = None, value: object = None, remedy: str | None = None) -> None:
        self.what, self.field, self.value, self.remedy = what, field, value, remedy
        parts = [f"{field}: {what}" if field else what]
        if value is not None:
            parts.append(f"got {_short(value)}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(parts))


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """Of `names` the one most like `name`, for "did you mean"; None where there are none."""
    # No cutoff: among few valid names even a distant one shows what is possible there.
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)
    return near[0] if near else None


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
