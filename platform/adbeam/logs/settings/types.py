"""Types of settings of a log: paths, moments, words, encodings and time zones as YAML spells them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from adbeam.settings import LocalPath
from adbeam.targeting.day_parts import zone


def _moment(value: Any) -> Any:
    """Milliseconds since 1970 from a number, a date, or ISO 8601 text (UTC unless it names a zone)."""
    if isinstance(value, str) and not value.lstrip("-").isdigit():
        value = datetime.fromisoformat(value)
    if hasattr(value, "isoformat") and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return round((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)
    return value


def as_table(value: Any) -> Any:
    """A bare path, or a list of them, stands for a table with no other setting."""
    return {"path": value} if isinstance(value, str | Path | list | tuple) else value


def _as_paths(value: Any) -> Any:
    return (value,) if isinstance(value, str | Path) else value


def _with_text_keys(value: Any) -> Any:
    """A file's values are compared as text, also with a key that is a number or a truth value."""
    return {_as_key(key): ours for key, ours in value.items()} if isinstance(value, dict) else value


def _as_key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _known_encoding(name: str) -> str:
    if name != "auto":
        try:
            "".encode(name)
        except (LookupError, UnicodeError):
            raise ValueError("no such encoding; take one of Python's, as latin-1, cp1252 or utf-16-le") from None
    return name


def _known_timezone(name: str) -> str:
    zone(name)
    return name


Timezone = Annotated[str, AfterValidator(_known_timezone)]
Moment = Annotated[int, BeforeValidator(_moment)]
Translation = Annotated[dict[str, str], BeforeValidator(_with_text_keys)]
Encoding = Annotated[str, AfterValidator(_known_encoding)]
Paths = Annotated[tuple[LocalPath, ...], BeforeValidator(_as_paths)]
