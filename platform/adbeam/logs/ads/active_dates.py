"""Active dates of a catalogue's ads: two columns of moments, folded into the rules as their `start` and `end`.

Where an ad's rules tell a window too, the narrower of both counts.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adbeam.errors import UserError
from adbeam.logs.casts import NO_NUMBER, cast_or_mark, is_text, plain
from adbeam.logs.settings.types import Timezone
from adbeam.logs.times.moments import to_milliseconds
from adbeam.logs.times.units import plausible_unit, refuse_wrong_unit
from adbeam.logs.validate import Reasons, whole_column
from adbeam.targeting.rules import LAST_MS, read_rules, stored_rules

ACTIVE_DATES = ("active_from", "active_to")
"""The first moment of an ad, and the first after it."""
_LATEST_MS = 4_102_444_800_000
"""2100: of a column in the right unit some date lies before it, though others mean for ever."""


@dataclass
class ActiveDates:
    """How the columns of one catalogue are read; `units` counts which unit their batches are in."""

    unit: str
    timezone: Timezone | None
    units: Counter[str] = field(default_factory=Counter)

    def fold(self, raw: pa.Table, rules: pa.Array | None, reasons: Reasons) -> pa.Array:
        """Text [rows]: the rules with the dates in them, null for ads of everybody at any time; marked where wrong."""
        starts, ends = (self._moments(raw, name, reasons) for name in ACTIVE_DATES)
        reasons.mark(pc.greater_equal(starts, ends), "active_to is not after active_from")
        told = [None] * raw.num_rows if rules is None else rules.to_pylist()
        dated = pc.or_(starts.is_valid(), ends.is_valid()).to_numpy(zero_copy_only=False)
        from_ms, to_ms = starts.to_pylist(), ends.to_pylist()
        empty = np.zeros(raw.num_rows, dtype=np.bool_)
        for row in np.flatnonzero(dated & reasons.clean):
            try:
                told[row] = within(told[row], from_ms[row], to_ms[row])
            except UserError:
                empty[row] = True
        reasons.mark(empty, "active dates and the start and end of targeting leave no moment")
        return pa.array(told, pa.string())

    def refuse_wrong_unit(self, field_name: str) -> None:
        """Raise UserError where the dates are in another unit than `timestamp_unit`."""
        refuse_wrong_unit(self.units, self.unit, f"{field_name}.timestamp_unit", _LATEST_MS)

    def _moments(self, raw: pa.Table, name: str, reasons: Reasons) -> pa.Array:
        values = _without_words(plain(whole_column(raw, name)))
        moments, bad = to_milliseconds(values, name, self.unit, self.timezone)
        unit = plausible_unit(values, self.unit, _LATEST_MS, self.timezone)
        if unit is not None:
            self.units[unit] += 1
        reasons.mark(bad, f"{name} is not a time in the catalogue's timestamp_unit, {self.unit}")
        reasons.mark(pc.less(moments, 0), f"{name} is before 1970")
        reasons.mark(pc.greater(moments, LAST_MS), f"{name} is beyond reason")
        return moments


def _without_words(values: pa.Array) -> pa.Array:
    """Null for the words that writers put where there is no moment."""
    if not is_text(values.type):
        return values
    text, bad = cast_or_mark(values, pa.string())
    none = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(text)), value_set=pa.array(NO_NUMBER))
    return pc.if_else(pc.and_(none, pc.invert(pa.array(bad))), None, values)


def within(text: str | None, start_ms: int | None, end_ms: int | None) -> str:
    """Rules in their one form that hold only in a window too; raises UserError where no moment is left."""
    window = {"start": start_ms, "end": end_ms}
    if text is None:
        return json.dumps({key: moment for key, moment in window.items() if moment is not None}, separators=(",", ":"))
    rules = stored_rules(text)
    if rules.start_ms is not None:
        window["start"] = rules.start_ms if start_ms is None else max(rules.start_ms, start_ms)
    if rules.end_ms is not None:
        window["end"] = rules.end_ms if end_ms is None else min(rules.end_ms, end_ms)
    narrowed = json.loads(text) | {key: moment for key, moment in window.items() if moment is not None}
    return str(read_rules(narrowed, None).text)
