"""The one error a user meets: which field, which value, and what to do about it."""

from __future__ import annotations


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


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
