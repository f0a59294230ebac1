"""Catalogues that hold an item once a day: of its versions the newest counts.

Which one that is goes by a declared column of numbers or moments, or by the order of files and rows. N rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from adbeam.errors import UserError
from adbeam.logs.casts import cast_or_mark, is_text, none_marked, plain, to_number
from adbeam.logs.config import FILE_ORDER, TableConfig
from adbeam.logs.times.moments import to_milliseconds
from adbeam.logs.validate import whole_column

SEVERAL_ROWS = "item_id has several different rows"


def version_column(raw: pa.Table, config: TableConfig) -> pa.Array | None:
    """What a batch under the contract's names says of its rows' versions; None where no column was declared."""
    if config.newest_by in (None, FILE_ORDER):
        return None
    ours = {theirs: name for name, theirs in config.renamed.items()}.get(config.newest_by, config.newest_by)
    return plain(whole_column(raw, ours))


def ages(versions: list[pa.Array], config: TableConfig, field: str) -> np.ndarray:
    """int64 or float64 [N], greater is newer; a row without a version is older than all that have one.

    Text is read as numbers where all of it can be, else as moments. Raises UserError for anything else, for nobody can
    say whether v9 or v10 is the newer.
    """
    numbers = [_as_number(values) for values in versions]
    if all(not bad.any() for _, bad in numbers):
        return _joined([found for found, _ in numbers])
    moments = [_as_moment(values, config.timezone) for values in versions]
    for values, (_, bad) in zip(versions, moments, strict=True):
        if bad.any():
            raise UserError(
                f"{config.newest_by} holds neither numbers nor moments throughout",
                field=f"{field}.newest_by",
                value=_shown(values, int(bad.argmax())),
                remedy=f"name a column of one of them, or set newest_by: {FILE_ORDER}",
            )
    return _joined([found for found, _ in moments])


def newest(item_ids: pa.Array, age_N: np.ndarray) -> np.ndarray:
    """bool [N]: the rows of an item's newest version; several where it has several of one age."""
    code_N = item_ids.dictionary_encode().indices.to_numpy()
    best = np.full(int(code_N.max(initial=-1)) + 1, age_N.min(initial=0), dtype=age_N.dtype)
    np.maximum.at(best, code_N, age_N)
    is_newest: np.ndarray = age_N == best[code_N]
    return is_newest


def remedy_for_several(newest_by: str | None) -> str:
    """What to do about items of which several rows remain."""
    if newest_by is None:
        return (
            "where a catalogue holds versions of an item, set its newest_by to the column that tells the newest, or "
            f"newest_by: {FILE_ORDER} where the last file does"
        )
    return f"newest_by: {newest_by} does not tell these rows apart: name another column, or keep one row an item"


def _as_number(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """int64 where all are whole, else float64; moments of Arrow's own types are no numbers."""
    if pt.is_integer(values.type):
        return cast_or_mark(values, pa.int64())
    if is_text(values.type):
        text, bad = cast_or_mark(values, pa.string())
        whole, not_whole = _all_whole(pc.utf8_trim_whitespace(text))
        if not bad.any() and not not_whole:
            return whole, none_marked(values)
    elif not (pt.is_floating(values.type) or pt.is_decimal(values.type) or pt.is_null(values.type)):
        return pa.nulls(len(values)), np.ones(len(values), dtype=bool)
    return to_number(values, "newest_by")


def _all_whole(text: pa.Array) -> tuple[pa.Array, bool]:
    try:
        return text.cast(pa.int64()), False
    except pa.ArrowInvalid:
        return text, True


def _as_moment(values: pa.Array, timezone: str | None) -> tuple[pa.Array, np.ndarray]:
    kind = values.type
    if pt.is_null(kind) or pt.is_timestamp(kind) or pt.is_date(kind):
        return to_milliseconds(values, "newest_by", "iso", timezone)
    if not is_text(kind):
        return pa.nulls(len(values)), values.is_valid().to_numpy(zero_copy_only=False)
    text, bad = cast_or_mark(values, pa.string())
    moments, no_moment = to_milliseconds(text, "newest_by", "iso", timezone)
    return moments, bad | no_moment


def _joined(parts: list[pa.Array]) -> np.ndarray:
    whole = all(pt.is_integer(part.type) or pt.is_null(part.type) for part in parts)
    kind, oldest = (pa.int64(), np.iinfo(np.int64).min) if whole else (pa.float64(), -np.inf)
    filled = [pc.fill_null(part.cast(kind, safe=False), oldest).to_numpy(zero_copy_only=False) for part in parts]
    return np.concatenate(filled) if filled else np.zeros(0, dtype=np.int64)


def _shown(values: pa.Array, place: int) -> str:
    value = values[place].as_py()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
