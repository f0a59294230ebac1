"""Candidate lists as fixed-size training rows, beside the rows of requests: the second part of the one stream.

Shapes: N candidates of one list, T SID levels, S context length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.training.data.build_rows import write_rows
from adbeam.training.data.order import RowFiles
from adbeam.training.data.rows import RowFormat

FORMAT = 1
CONTEXT_FIELDS = ("static_F", "code_ST", "feature_SC", "trend_code_NT", "trend_feature_NC")
READ_ROWS = 512
LARGEST_REWARD = 1e30
"""Rewards are cut here: float32 on disk, and a logarithm in the loss."""


@dataclass(frozen=True)
class ListFormat(RowFormat):
    """A row of a list: the context fields of a request's row, and up to `targets` candidates."""

    @classmethod
    def beside(cls, rows: RowFormat, candidates: int) -> Self:
        """The lists that join requests of this format."""
        return cls(**{**rows.as_dict(), "targets": candidates})

    @property
    def dtype(self) -> np.dtype:
        """One list. The reward of a candidate is NaN where unknown, its log-probability where not stored."""
        rows = RowFormat(**self.as_dict()).dtype
        assert rows.fields is not None
        context = [(name, rows.fields[name][0]) for name in CONTEXT_FIELDS if name in rows.fields]
        code = rows["code_ST"].base
        return np.dtype(
            [
                *context,
                ("candidate_NT", code, (self.targets, self.levels)),
                ("reward_N", np.float32, (self.targets,)),
                ("log_probability_N", np.float32, (self.targets,)),
                ("candidates", np.int16),
            ]
        )


@dataclass(frozen=True)
class ListStore:
    """The published rows of some lists."""

    files: RowFiles
    format: ListFormat
    fingerprint: str

    @classmethod
    def open(cls, folder: Path) -> ListStore:
        """Raises UserError when the folder is missing, incomplete or altered."""
        manifest = artifacts.read_manifest(folder)
        shards = manifest["shards"]
        files = RowFiles(folder, tuple(s["name"] for s in shards), tuple(s["rows"] for s in shards))
        return cls(files, ListFormat(**manifest["format"]), manifest["fingerprint"])


def build_list_rows(
    lists: Sequence[Path], target: Path, rows: RowFormat, candidates: int, tokens_version: str
) -> ListStore:
    """Write `target` from folders of LIST_SAMPLE_SCHEMA; does nothing when it is current.

    A list longer than `candidates` is cut, a sample that comes twice counts once. Raises UserError when a folder is
    missing, when lists are of another tokenizer or context, or when there is none.
    """
    format = ListFormat.beside(rows, candidates)
    manifests = [artifacts.read_manifest(folder, verify=False)["files"] for folder in lists]
    details: dict[str, Any] = {
        "fingerprint": artifacts.fingerprint(FORMAT, manifests, format.as_dict(), tokens_version)
    }
    if artifacts.is_current(target, details):
        return ListStore.open(target)
    with artifacts.publish(target, details) as staging:
        seen: set[str] = set()
        shards: list[dict[str, Any]] = []
        paths = [path for folder in lists for path in sorted(folder.glob("*.parquet"))]
        for number, path in enumerate(paths):
            name, count = f"lists-{number:05d}.parquet", _Count()
            parts = count.watch(_read(path, format, tokens_version, seen))
            write_rows(staging / name, parts, format, seed=(number,))
            shards.append({"name": name, "rows": count.rows})
        if not sum(shard["rows"] for shard in shards):
            raise UserError("there are no candidate lists to learn from", remedy="run generate-lists first")
        details |= {"shards": [shard for shard in shards if shard["rows"]], "format": format.as_dict()}
    return ListStore.open(target)


class _Count:
    rows = 0

    def watch(self, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for row_B in parts:
            self.rows += len(row_B)
            yield row_B


def _read(path: Path, format: ListFormat, tokens_version: str, seen: set[str]) -> Iterator[np.ndarray]:
    for batch in pq.ParquetFile(path).iter_batches(batch_size=READ_ROWS):
        found = set(batch.column("tokens_version").to_pylist()) - {tokens_version}
        if found and tokens_version:
            raise UserError(
                f"{path} holds lists of another tokenizer",
                value=sorted(found)[0],
                remedy="generate the lists again: their semantic IDs mean other ads now",
            )
        ids = batch.column("sample_id").to_pylist()
        fresh = []
        for place, name in enumerate(ids):
            if name not in seen:
                seen.add(name)
                fresh.append(place)
        yield list_rows(batch.take(pa.array(fresh, pa.int64())), format)


def list_rows(batch: pa.RecordBatch, format: ListFormat) -> np.ndarray:
    """Rows [B] of a batch of LIST_SAMPLE_SCHEMA; raises UserError when contexts do not fit the format."""
    row_B = np.zeros(batch.num_rows, dtype=format.dtype)
    names = {"static_F": "static", "code_ST": "codes", "feature_SC": "features"}
    names |= {"trend_code_NT": "trend_codes", "trend_feature_NC": "trend_features"} if format.trending else {}
    for field, column in names.items():
        row_B[field] = _context(batch.column(column), format.dtype[field], column)
    row_B["reward_N"] = np.nan
    row_B["log_probability_N"] = np.nan
    columns = [batch.column(name).to_pylist() for name in ("sids", "rewards", "log_probabilities")]
    for row, sids, rewards, log_p in zip(row_B, *columns, strict=True):
        n = min(len(sids), format.targets)
        row["candidates"] = n
        row["candidate_NT"][:n] = sids[:n]
        money = np.array([np.nan if value is None else value for value in rewards[:n]], dtype=np.float64)
        row["reward_N"][:n] = np.where(np.isinf(money), np.nan, np.clip(money, 0, LARGEST_REWARD))
        if log_p is not None:
            row["log_probability_N"][:n] = [np.nan if value is None else value for value in log_p[:n]]
    return row_B


def _context(column: pa.Array, dtype: np.dtype, name: str) -> np.ndarray:
    size = int(np.prod(dtype.shape))
    flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    if len(flat) != size * len(column) or column.null_count:
        raise UserError(
            "the lists' contexts do not fit the model",
            field=name,
            value=f"{len(flat)} values for {len(column)} lists",
            remedy=f"generate them with this model's settings: {size} a list",
        )
    return flat.reshape(len(column), *dtype.shape)
