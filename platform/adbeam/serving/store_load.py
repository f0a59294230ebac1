"""Fill a history store from prepared logs, once: in one transaction, whichever replica comes first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.serving.store import SqliteStore, UserHistory, remember, write_history

COLUMNS = ["user_id", "timestamp", "item_id", "item_kind", "action", "value"]
SOURCE = "loaded_from"


def load_histories(prepared: str | Path, store: SqliteStore, *, before_ms: int | None = None) -> int:
    """Load the sequences of `prepared` into `store`; returns users written, 0 when a log was loaded before.

    `before_ms` keeps later events out, for replaying a log. Raises UserError when the folder is not whole.
    """
    prepared = Path(prepared)
    manifest = artifacts.read_manifest(prepared, verify=False)
    source = artifacts.fingerprint(manifest["files"], before_ms)
    if store.fact(SOURCE) is not None:  # a later load would overwrite what users have done since
        return 0
    with store.transaction() as connection:
        row = connection.execute("SELECT value FROM facts WHERE name = ?", (SOURCE,)).fetchone()
        if row:  # another replica loaded it while this one waited
            return 0
        users = 0
        for user_id, history in _sequences(prepared):
            kept = history if before_ms is None else history.before(before_ms)
            if len(kept):
                write_history(connection, user_id, kept.newest(store.max_events))
                users += 1
        remember(connection, SOURCE, source)
    return users


def _sequences(prepared: Path) -> Iterator[tuple[str, UserHistory]]:
    try:
        table = ds.dataset(prepared / "sequences", format="parquet")
        for batch in table.to_batches(columns=COLUMNS, batch_size=1024):
            yield from _rows(batch)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{prepared / 'sequences'} cannot be read: {error}", remedy="prepare the log again") from None


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[str, UserHistory]]:
    columns = {name: batch.column(name) for name in COLUMNS}
    for row, user_id in enumerate(columns["user_id"].to_pylist()):
        yield (
            user_id,
            UserHistory(
                columns["item_id"][row].values.to_pylist(),
                _array(columns["timestamp"][row], np.int64),
                _array(columns["action"][row], np.int8),
                _array(columns["item_kind"][row], np.int8),
                _array(columns["value"][row], np.float32),
            ),
        )


def _array(scalar: Any, dtype: type) -> np.ndarray:
    return np.asarray(scalar.values.to_numpy(zero_copy_only=False), dtype)
