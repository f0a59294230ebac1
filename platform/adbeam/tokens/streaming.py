"""Encoding a catalogue of any size: batches in, SIDs out, in this process or by a pool of Ray Data actors.

Nothing but the batches in flight is held, whatever the catalogue's size. The quantizer was fitted on a sample before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.dataset import ParquetFragmentScanOptions

from adbeam.errors import UserError
from adbeam.ray_data.parquet import read_parquet
from adbeam.ray_data.pools import BLOCK_BYTES, actor_pool, in_order

if TYPE_CHECKING:
    from adbeam.tokens.quantizers.base import Quantizer
    from adbeam.tokens.tokenizer import Tokenizer


ENCODED_SCHEMA = pa.schema(
    [("item_id", pa.string()), ("kind", pa.string()), ("sid", pa.list_(pa.int32())), ("usable", pa.bool_())]
)


class EncodeItems:
    """Catalogue rows -> ENCODED_SCHEMA; what an actor of the pool holds."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, items: pa.Table) -> pa.Table:
        """One batch."""
        encoded = self.tokenizer.encode(items)
        columns = [items["item_id"], items["kind"], sid_array(encoded.sids_NT), pa.array(encoded.usable_N)]
        return pa.Table.from_arrays(columns, schema=ENCODED_SCHEMA)


class AssignVectors:
    """Rows with a vector -> the same rows with `sid` in its place; for vectors made elsewhere."""

    def __init__(self, quantizer: Quantizer, vector_column: str, hash_column: str | None) -> None:
        self.quantizer, self.vector_column, self.hash_column = quantizer, vector_column, hash_column

    def __call__(self, rows: pa.Table) -> pa.Table:
        """One batch."""
        business_N = (
            None if self.hash_column is None else rows[self.hash_column].to_numpy().astype(np.uint64, copy=False)
        )
        sids_NT = self.quantizer.encode(_matrix(rows[self.vector_column]), business_N)
        return rows.drop_columns([self.vector_column]).append_column("sid", sid_array(sids_NT))


def encoded_batches(path: Path, tokenizer: Tokenizer, *, workers: int) -> Iterator[pa.Table]:
    """The catalogue at `path`, encoded, in its own order; `workers` = 0 encodes here, else that many Ray actors do."""
    if workers == 0:
        encode = EncodeItems(tokenizer)
        for batch in item_batches(path, tokenizer.config.embedder.batch_items):
            yield encode(batch)
        return
    dataset = _read(path, workers).map_batches(EncodeItems, **actor_pool(workers, (tokenizer,)))
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")


def assign_vectors(
    source: Path | Sequence[str],
    target: Path,
    quantizer: Quantizer,
    *,
    vector_column: str = "vector",
    hash_column: str | None = "hash",
    workers: int,
) -> None:
    """Parquet of vectors -> Parquet of SIDs by a pool of Ray Data actors: reads, encodes and writes as a stream."""
    pool = actor_pool(workers, (quantizer, vector_column, hash_column))
    dataset = _read(source, workers).map_batches(AssignVectors, **pool)
    dataset.write_parquet(str(target))


def item_batches(path: Path, rows: int = 65_536) -> Iterator[pa.Table]:
    """The rows of one Parquet file, a batch at a time."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"cannot read {path}: {error}", remedy="prepare the catalogue again") from None


def item_count(path: Path) -> int:
    """Rows of one Parquet file; raises UserError when it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"cannot read {path}: {error}", remedy="prepare the catalogue again") from None


def sid_array(sids_NT: np.ndarray) -> pa.ListArray:
    """A column of lists of T codes."""
    items, levels = sids_NT.shape
    offsets = pa.array(np.arange(0, items * levels + 1, levels), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(sids_NT.ravel(), pa.int32()))


def sid_matrix(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """int32 [N, T] of a column of lists of T codes."""
    return _matrix(column).astype(np.int32, copy=False)


def _matrix(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(array):
        return np.zeros((0, 0), np.float32)
    flat: np.ndarray = array.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(array), -1)


def _read(source: Path | Sequence[str], workers: int) -> Any:
    # Arrow reads whole files and 16 batches ahead by default: some hundred MiB of vectors that nobody waits for.
    scan = ParquetFragmentScanOptions(use_buffered_stream=True, buffer_size=1 << 20, pre_buffer=False)
    with in_order(workers):
        path = str(source) if isinstance(source, Path) else list(source)
        return read_parquet(path, piece_bytes=BLOCK_BYTES, batch_readahead=1, fragment_scan_options=scan)
