"""The account of a preparation: every row that went in is kept, quarantined with a reason, or a duplicate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adbeam.logs.money import MOST_MEDIANS, MoneySketch
from adbeam.logs.sources.base import Impressions
from adbeam.logs.times.spans import Span, span_of

_OF_SEVERAL_ACTIONS = {"more_events": "+ further events of these rows", "without_event": "- rows without an event"}


@dataclass
class Account:
    """Counts of rows. `source` holds what the source says of itself, `splits` the kept events per split, `training`,
    `validation` and `test` the actions of each, `money` the amounts of each column that has any, `impressions` what
    they are, `value` what targets are worth by (`logs.value`) and `ecpm_rates` what the rates for it were made of.
    `span` is the first and last moment of the kept events, milliseconds since 1970; `units` counts which unit the
    batches of timestamps look like. Where rows carry several actions, `more_events` are those beside one of each row
    and `without_event` the rows that give none."""

    files_read: int = 0
    bytes_read: int = 0
    rows_in: int = 0
    more_events: int = 0
    without_event: int = 0
    kept: int = 0
    duplicates: int = 0
    users: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    catalogue: dict[str, Any] = field(default_factory=dict)
    source: Counter[str] = field(default_factory=Counter)
    training: Counter[str] = field(default_factory=Counter)
    validation: Counter[str] = field(default_factory=Counter)
    test: Counter[str] = field(default_factory=Counter)
    money: dict[str, MoneySketch] = field(default_factory=dict)
    impressions: Impressions = "none"
    impression_weight: str | None = None
    value: str = "price_or_bid"
    ecpm_rates: dict[str, Any] | None = None
    units: Counter[str] = field(default_factory=Counter)
    span: Span | None = None
    tells_time: bool = True
    """Whether the moments are those of a clock."""

    @property
    def quarantined(self) -> int:
        return sum(self.reasons.values())

    @property
    def events_in(self) -> int:
        """What was held against the rules: rows, or the events of rows that carry several actions."""
        return self.rows_in + self.more_events - self.without_event

    def add(self, counts: Mapping[str, Any]) -> None:
        """Add one task's counts (a mapping with any of this account's counters)."""
        for name in ("rows_in", "more_events", "without_event", "kept", "duplicates", "users"):
            setattr(self, name, getattr(self, name) + int(counts.get(name, 0)))
        for name in ("reasons", "splits", "actions", "source", "training", "validation", "test", "units"):
            getattr(self, name).update(counts.get(name, {}))
        for column, sketch in counts.get("money", {}).items():
            self.money.setdefault(column, MoneySketch()).add(MoneySketch.from_dict(sketch))
        if "span" in counts:
            ends = (*(self.span or ()), counts["span"]["min"], counts["span"]["max"])
            self.span = (min(ends), max(ends))

    def check(self) -> None:
        """Raise when a row is missing or counted twice: that is a fault of this program, never of the log."""
        total = self.kept + self.quarantined + self.duplicates
        if self.events_in != total or self.kept != sum(self.splits.values()):
            raise RuntimeError(f"account does not balance: {self.events_in} events in, {total} accounted for: {self}")

    def to_dict(self) -> dict[str, Any]:
        """As stored in account.json."""
        return {
            "files_read": self.files_read,
            "bytes_read": self.bytes_read,
            "rows_in": self.rows_in,
            **{name: count for name in _OF_SEVERAL_ACTIONS if (count := getattr(self, name))},
            "kept": self.kept,
            "quarantined": self.quarantined,
            "duplicates": self.duplicates,
            "reasons": dict(self.reasons.most_common()),
            "users": self.users,
            **({"span": span_of(*self.span)} if self.span and self.tells_time else {}),
            "splits": dict(self.splits),
            "actions": dict(self.actions),
            "catalogue": self.catalogue,
            "source": dict(self.source),
            "training": dict(self.training),
            "validation": dict(self.validation),
            "test": dict(self.test),
            "money": {column: sketch.summary() for column, sketch in sorted(self.money.items()) if sketch.rows},
            "impressions": self.impressions,
            "impression_weight": self.impression_weight,
            "value": self.value,
            **({"ecpm_rates": self.ecpm_rates} if self.ecpm_rates else {}),
        }


def print_account(account: Mapping[str, Any], title: str) -> None:
    """Print a stored account as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("rows", justify="right")
    for name, count in _lines(account):
        table.add_row(name, f"{count:,}" if isinstance(count, int) else str(count))
    console = Console()
    console.print(table)
    if rates := account.get("ecpm_rates"):
        console.print(_rates_note(rates), soft_wrap=True)
    for note in _target_notes(account):
        console.print(note, style="yellow", soft_wrap=True)
    for column, found in _beyond_reason(account):
        console.print(_warning(column, found), style="yellow", soft_wrap=True)


def _lines(account: Mapping[str, Any]) -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = [
        (what.replace("_", " "), account[what]) for what in ("files_read", "bytes_read") if what in account
    ]
    lines.append(("rows in", account["rows_in"]))
    lines.extend((said, account[name]) for name, said in _OF_SEVERAL_ACTIONS.items() if name in account)
    lines.append(("= kept", account["kept"]))
    lines.append(("+ quarantined", account["quarantined"]))
    by_count = sorted(account["reasons"].items(), key=lambda item: (-item[1], item[0]))
    lines.extend((f"    {reason}", count) for reason, count in by_count)
    lines.append(("+ duplicates", account["duplicates"]))
    lines.append(("users", account["users"]))
    lines.extend((f"{end} moment", moment) for end, moment in account.get("span", {}).items())
    for group in ("splits", "actions", "catalogue", "source"):
        lines.extend((f"{group}: {name.replace('_', ' ')}", count) for name, count in account[group].items())
    lines.extend(
        (f"money: {column} above {MOST_MEDIANS:,.0f} medians", found["beyond_reason"])
        for column, found in _beyond_reason(account)
    )
    return [(name, count) for name, count in lines if not isinstance(count, dict)]


def _target_notes(account: Mapping[str, Any]) -> list[str]:
    """What is worth saying of a log with a split that holds no conversion; an older account tells of training alone."""
    training = account.get("training")
    if training is None:
        return []
    target = "conversion" if training.get("conversion") else "click"
    if not training.get(target):
        return [
            "warning: the training split holds neither conversions nor clicks: nothing can be learnt from it. Map the "
            "log's words in logs.files.events.values.action, or move logs.split"
        ]
    notes = []
    if target == "click":
        notes.append("no conversion in the training split: clicks are the targets (training.target_action: auto)")
    if without := [part for part in ("validation", "test") if part in account and not account[part].get(target)]:
        notes.append(f"warning: no {target} in {' and '.join(without)}: nothing can be judged there. Move logs.split")
    return notes


def _rates_note(rates: Mapping[str, Any]) -> str:
    left_out = rates["amounts_left_out"]
    return (
        f"targets are worth the expected money of a thousand impressions (logs.value: ecpm): {rates['mean']:,} on "
        f"average, by {rates['impressions']:,} training impressions of {rates['ads']:,} ads in {rates['scenes']:,} "
        "scenes" + (f"; {left_out:,} amounts beyond reason left out" if left_out else "")
    )


def _beyond_reason(account: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Columns with money beyond reason; an account of an older version says nothing of money."""
    return [(column, found) for column, found in account.get("money", {}).items() if found["beyond_reason"]]


def _warning(column: str, found: Mapping[str, Any]) -> str:
    named = ", ".join(f"{name} {found[name]}" for name in ("event_id", "item_id") if name in found)
    return (
        f"warning: {column}: {found['beyond_reason']:,} of {found['rows']:,} amounts are above {MOST_MEDIANS:,.0f} "
        f"times their median of {found['median']:,}; the largest is {found['largest']:,} ({named}). Are these micros, "
        "cents or another currency? Bring them into the log's own unit, or leave them out, and prepare again: they are "
        "kept as they stand, eCPM buckets leave out a few, and export refuses them where they hold most of the money."
    )
