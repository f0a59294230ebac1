"""Whether a log's timestamp_unit can be right, by plausibility: seconds taken for milliseconds all lie in January 1970.

A log of relative times (from 0 on) fits no unit and is left alone; so is one of which only some values look wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from adbeam.errors import UserError
from adbeam.logs.casts import plain, to_number
from adbeam.logs.times.moments import UNITS, to_milliseconds
from adbeam.logs.times.spans import written

EARLIEST_MS = 631_152_000_000
"""1990: no log of ads is older. Up to now, no count of one unit is plausible in another one."""
NO_UNIT = "none"
_SAMPLE = 1000


def plausible_unit(values: pa.Array, unit: str, latest_ms: int, timezone: str | None = None) -> str | None:
    """The unit that a batch of timestamps is in: `unit` where it fits any of a sample, another where it fits all of it.

    NO_UNIT where neither holds; None where the values say nothing: moments of Arrow's own types, empty ones, zeros.
    """
    sample = _sample(plain(values))
    if not len(sample) or pt.is_temporal(sample.type) or pt.is_nested(sample.type):
        return None
    if _fits(sample, unit, latest_ms, timezone).any():
        return unit
    others = [other for other in UNITS if other != unit and _fits(sample, other, latest_ms, timezone).all()]
    return others[0] if len(others) == 1 else NO_UNIT


def refuse_wrong_unit(units: Mapping[str, int], unit: str, field: str, latest_ms: int) -> None:
    """Raise UserError where batches of a log are in another unit; `units` counts what plausible_unit said of each."""
    others = [other for other in units if other not in (unit, NO_UNIT)]
    if not others or units.get(NO_UNIT):
        return
    wrong, total = units[others[0]], sum(units.values())
    part = "" if wrong == total else f" of {wrong:,} of the {total:,} parts that were read"
    remedy = f"set timestamp_unit: {others[0]}"
    raise UserError(
        f"the moments{part} lie outside of {written(EARLIEST_MS)} to {written(latest_ms)}; as {others[0]} all of them "
        "would lie inside",
        field=field,
        value=unit,
        remedy=remedy if wrong == total else f"write all files in one unit, or {remedy} where that is the log's",
    )


def _sample(values: pa.Array) -> pa.Array:
    """Some values from all over a batch; zeros and less stand for no time."""
    known = values.drop_null()
    places = np.unique(np.linspace(0, max(len(known) - 1, 0), _SAMPLE, dtype=np.int64))
    sample = known.take(pa.array(places)) if len(known) else known
    if pt.is_temporal(sample.type) or pt.is_nested(sample.type):
        return sample
    numbers, _ = to_number(sample, "timestamp")
    return sample.filter(pc.fill_null(pc.greater(numbers, 0), True))


def _fits(sample: pa.Array, unit: str, latest_ms: int, timezone: str | None) -> np.ndarray:
    try:
        moments, _ = to_milliseconds(sample, "timestamp", unit, timezone)
    except UserError:  # numbers are no written moments
        return np.zeros(len(sample), dtype=bool)
    inside = pc.and_(pc.greater_equal(moments, EARLIEST_MS), pc.less_equal(moments, latest_ms))
    fits: np.ndarray = pc.fill_null(inside, False).to_numpy(zero_copy_only=False)
    return fits
