"""From when to when a log goes, and a split that lies outside of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from adbeam.errors import UserError
from adbeam.logs.settings.split import SplitConfig

Span = tuple[int, int]
"""First and last moment, milliseconds since 1970, UTC."""
_PARTS = {"train": "training", "validation": "validation", "test": "test"}
_SETTINGS = {"train": "validation_from", "validation": "validation_from", "test": "test_from"}
_REMEDIES = {
    "train": "move it later",
    "validation": "move it earlier, or test_from later",
    "test": "move it earlier",
}


def written(moment_ms: int) -> str:
    """A moment as people and YAML write it: 2025-03-26T08:15:00.123Z; without the fraction where there is none."""
    text = datetime.fromtimestamp(moment_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{moment_ms % 1000:03d}Z" if moment_ms % 1000 else f"{text}Z"


def span_of(first_ms: int, last_ms: int) -> dict[str, str]:
    """A span as account.json holds it."""
    return {"first": written(first_ms), "last": written(last_ms)}


def refuse_empty_parts(splits: Mapping[str, int], split: SplitConfig, span: Span) -> None:
    """Raise UserError for the first part of the split without an event: it would be missed hours later."""
    empty = [part for part in _PARTS if not splits.get(part)]
    if not empty:
        return
    named = " and ".join(_PARTS[part] for part in empty)
    if split.by == "leave_last_out":
        raise UserError(
            f"leaves no event for {named}: no user has three requests",
            field="logs.split.by",
            value=split.by,
            remedy="split by time, or bring users with three requests or more",
        )
    setting = _SETTINGS[empty[0]]
    raise UserError(
        f"leaves no event for {named}: the log goes from {written(span[0])} to {written(span[1])}",
        field=f"logs.split.{setting}",
        value=written(getattr(split, setting)),
        remedy="move it and test_from earlier" if len(empty) > 1 and empty[0] == "validation" else _REMEDIES[empty[0]],
    )
