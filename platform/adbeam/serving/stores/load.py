"""Opening the history store of a configuration, and filling it from prepared logs, once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.imports.extension_points import HISTORY_STORES
from adbeam.logs.trending import count_by_hour
from adbeam.records import HOUR_MS
from adbeam.serving.config import StoreConfig
from adbeam.serving.stores.store import KEPT_HOURS, HistoryStore, HourCount, UserHistory
from adbeam.workdir import SEQUENCES

logger = logging.getLogger(__name__)

COLUMNS = ["user_id", "timestamp", "item_id", "item_kind", "action", "value"]


def open_store(config: StoreConfig) -> HistoryStore:
    """The store that `config` names, filled from its prepared logs; raises UserError when it cannot be used."""
    store: HistoryStore = HISTORY_STORES.load(config.backend)(config)
    if config.prepared is not None:
        users = load_histories(config.prepared, store)
        logger.info("loaded the histories of %d users", users)
    return store


def load_histories(prepared: str | Path, store: HistoryStore, *, before_ms: int | None = None) -> int:
    """Load the sequences of `prepared` into `store`; returns users written, 0 when a log was loaded before.

    `before_ms` keeps later events out, for replaying a log. Raises UserError when the folder is not whole.
    """
    prepared = Path(prepared)
    manifest = artifacts.read_manifest(prepared, verify=False)
    source = artifacts.fingerprint(manifest["files"], before_ms)
    return store.fill(source, _kept(prepared, before_ms), _newest_conversions(prepared, before_ms))


def _newest_conversions(prepared: Path, before_ms: int | None) -> Iterator[HourCount]:
    """The ad conversions of the log's last week, by hour; read when first asked for."""
    counted: Counter[tuple[int, str]] = Counter()
    for shard in sorted((prepared / SEQUENCES).glob("*.parquet")):
        for batch in pq.ParquetFile(shard).iter_batches(1024, columns=["timestamp", "item_id", "item_kind", "action"]):
            table = count_by_hour(pa.table(batch))
            for hour, item, count in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
                if before_ms is None or hour < before_ms // HOUR_MS:
                    counted[hour, item] += count
    last = max((hour for hour, _ in counted), default=0)
    for (hour, item), count in counted.items():
        if hour >= last - KEPT_HOURS:
            yield hour, item, count


def _kept(prepared: Path, before_ms: int | None) -> Iterator[tuple[str, UserHistory]]:
    for user_id, history in _sequences(prepared):
        kept = history if before_ms is None else history.before(before_ms)
        if len(kept):
            yield user_id, kept


def _sequences(prepared: Path) -> Iterator[tuple[str, UserHistory]]:
    try:
        table = ds.dataset(prepared / SEQUENCES, format="parquet")
        for batch in table.to_batches(columns=COLUMNS, batch_size=1024):
            yield from _rows(batch)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{prepared / SEQUENCES} cannot be read: {error}", remedy="prepare the log again") from None


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
