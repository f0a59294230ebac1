"""Sequence building and deduplication: events spilled by a stable hash of the user, then each shard made whole.

Exact duplicates share a user and therefore a shard, so dropping them needs no exchange between shards.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.logs.events.ordering import ordered_events
from adbeam.logs.events.pieces import PIECE_ROWS, RowGroupWriter, pieces_of
from adbeam.logs.money import MoneySketch
from adbeam.logs.settings.split import SplitConfig
from adbeam.logs.trending import count_by_hour
from adbeam.logs.validate import EVENT_ID_TAKEN, QUARANTINE_SCHEMA, Reasons, quarantine_rows
from adbeam.records import ACTIONS, ITEM_KINDS, SEQUENCE_SCHEMA, SPLITS
from adbeam.workdir import EVENTS, QUARANTINE, SEQUENCES

_EVENT_ROWS = 65536
_SEQUENCE_ROWS = 1024


def shard_of(user_ids: pa.Array, shards: int) -> np.ndarray:
    """Shard of each user, the same on every machine and in every run."""
    encoded = user_ids.dictionary_encode()
    digests = (hashlib.blake2b(user.encode(), digest_size=8).digest() for user in encoded.dictionary.to_pylist())
    by_user = np.array([int.from_bytes(digest, "big") % shards for digest in digests], dtype=np.int64)
    shard_E: np.ndarray = by_user[encoded.indices.to_numpy()]
    return shard_E


class Spill:
    """Clean events of one share of the log, one file a shard, renamed into place when the share is through."""

    def __init__(self, folder: Path, share: int, shards: int, schema: pa.Schema) -> None:
        self._folder, self._share, self._shards, self._schema = folder, share, shards, schema
        self._writers: dict[int, tuple[Path, Path, Any, Any]] = {}

    def write(self, events: pa.Table) -> None:
        """Append events to the files of their shards."""
        if not events.num_rows:
            return
        shard = shard_of(events.column("user_id").combine_chunks(), self._shards)
        order = np.argsort(shard, kind="stable")
        ordered = events.take(pa.array(order)).combine_chunks()
        present, starts = np.unique(shard[order], return_index=True)
        ends = np.append(starts[1:], len(shard))
        for number, start, end in zip(present.tolist(), starts.tolist(), ends.tolist(), strict=True):
            self._writer(number).write_table(ordered.slice(start, end - start))

    def close(self) -> None:
        """Publish the files; a share that died before this leaves none that a shard would read."""
        for partial, final, sink, writer in self._writers.values():
            writer.close()
            sink.close()
            os.replace(partial, final)

    def _writer(self, shard: int) -> Any:
        if shard not in self._writers:
            folder = self._folder / f"{shard:05d}"
            folder.mkdir(parents=True, exist_ok=True)
            partial, final = folder / f"{self._share:06d}.partial", folder / f"{self._share:06d}.arrow"
            sink = pa.OSFile(str(partial), "wb")
            self._writers[shard] = (partial, final, sink, pa.ipc.new_stream(sink, self._schema))
        return self._writers[shard][3]


class Quarantine:
    """The refused rows of one share, in one Parquet file; there is none when no row was refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: pa.Table) -> None:
        """Append rows of QUARANTINE_SCHEMA."""
        if rows.num_rows:
            self._writer = self._writer or pq.ParquetWriter(self._path, QUARANTINE_SCHEMA, compression="zstd")
            self._writer.write_table(rows)

    def close(self) -> None:
        if self._writer:
            self._writer.close()


def assemble_shard(
    spill: Path, shard: int, schema: pa.Schema, split: SplitConfig, target: Path, piece_rows: int = PIECE_ROWS
) -> list[dict[str, Any]]:
    """Write one shard's events, sequences and quarantine below `target`; returns counts for the account, of each piece
    of about `piece_rows` rows that was in memory at a time."""
    parts = sorted((spill / f"{shard:05d}").glob("*.arrow"))
    if not parts:
        return []
    counts, refused = [], []
    by_hour: dict[str, list[pa.Table]] = {"conversion": [], "click": []}
    name = f"part-{shard:05d}.parquet"
    with (
        RowGroupWriter(target / EVENTS / name, _EVENT_ROWS) as of_events,
        RowGroupWriter(target / SEQUENCES / name, _SEQUENCE_ROWS) as of_sequences,
    ):
        for spilled in pieces_of(parts, piece_rows):
            events, quarantine = order_events(spilled)
            sequences = to_sequences(events, split)
            of_events.write(events.cast(schema))
            of_sequences.write(sequences)
            refused.append(quarantine)
            for action, tables in by_hour.items():
                tables.append(count_by_hour(sequences, action))
            counts.append(_counts(spilled.num_rows, events, sequences, quarantine))
    for action, tables in by_hour.items():
        pq.write_table(pa.concat_tables(tables), spill / f"{action}s-{shard:05d}.parquet")
    quarantine = pa.concat_tables(refused)
    if quarantine.num_rows:
        pq.write_table(quarantine, target / QUARANTINE / f"shard-{shard:05d}.parquet")
    return counts


def _counts(spilled: int, events: pa.Table, sequences: pa.Table, quarantine: pa.Table) -> dict[str, Any]:
    """What the account counts, of `spilled` rows that became these."""
    splits = np.bincount(pc.list_flatten(sequences["split"]).to_numpy(), minlength=len(SPLITS)).tolist()
    in_split = dict(zip(SPLITS, (_actions_in(events, sequences, code) for code in range(len(SPLITS))), strict=True))
    return {
        "kept": events.num_rows,
        "duplicates": spilled - events.num_rows - quarantine.num_rows,
        "reasons": Counter(quarantine["reason"].to_pylist()),
        "users": sequences.num_rows,
        "span": pc.min_max(events["timestamp"]).as_py(),
        "splits": dict(zip(SPLITS, splits, strict=True)),
        "actions": sum(in_split.values(), Counter()),
        "training": in_split["train"],
        "validation": in_split["validation"],
        "test": in_split["test"],
        "money": weigh(events, ("price", "bid", "ecpm"), ("event_id", "item_id")),
    }


def weigh(table: pa.Table, columns: tuple[str, ...], names: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    """{column: MoneySketch.as_dict}; `names` are the columns that name the row of the largest amount."""
    sketches = {}
    for column in columns:
        values = pc.fill_null(table[column], 0.0).to_numpy()
        sketch = MoneySketch.of(values)
        if sketch.rows:
            row = int(np.argmax(values))
            sketch.example = {name: table[name][row].as_py() for name in names}
            sketches[prefix + column] = sketch.as_dict()
    return sketches


def _actions_in(events: pa.Table, sequences: pa.Table, split: int) -> Counter[str]:
    """How often each action is in one split."""
    actions = events["action"].filter(pc.equal(pc.list_flatten(sequences["split"]), split))
    return Counter({row["values"]: row["counts"] for row in pc.value_counts(actions).to_pylist()})


def order_events(events: pa.Table) -> tuple[pa.Table, pa.Table]:
    """(events by user and time without exact duplicates, quarantine).

    Of several different events of a user under one event_id the earliest is kept.
    """
    ordered, repeated = ordered_events(events)
    reasons = Reasons(ordered.num_rows)
    reasons.mark(repeated, EVENT_ID_TAKEN)
    kept = ordered.filter(pa.array(~repeated)) if repeated.any() else ordered
    return kept, quarantine_rows(ordered, reasons)


def to_sequences(events: pa.Table, split: SplitConfig) -> pa.Table:
    """One row a user from events ordered by user and time; columns as in SEQUENCE_SCHEMA."""
    events = events.combine_chunks()
    user_codes = events["user_id"].combine_chunks().dictionary_encode()
    starts = np.unique(user_codes.indices.to_numpy(), return_index=True)[1]
    offsets = pa.array(np.append(starts, events.num_rows).astype(np.int32))
    flat = {name: events[name].combine_chunks() for name in ("request_id", "timestamp", "item_id", "scene")}
    flat["split"] = pa.array(split_codes(events, split))
    flat["action"] = _places(events["action"], ACTIONS)
    flat["item_kind"] = (
        pc.index_in(events["item_kind"], value_set=pa.array(ITEM_KINDS)).cast(pa.int8()).combine_chunks()
    )
    flat["value"] = _values(events)
    columns = [user_codes.dictionary]
    columns += [pa.ListArray.from_arrays(offsets, flat[field.name]) for field in list(SEQUENCE_SCHEMA)[1:]]
    return pa.table(columns, names=SEQUENCE_SCHEMA.names).cast(SEQUENCE_SCHEMA)


def split_codes(events: pa.Table, split: SplitConfig) -> np.ndarray:
    """int8 index into SPLITS for each event (ordered by user and time)."""
    if split.by == "time":
        assert split.validation_from is not None and split.test_from is not None
        moments = events["timestamp"].to_numpy()
        place_E: np.ndarray = np.digitize(moments, [split.validation_from, split.test_from])
        return place_E.astype(np.int8)
    return _leave_last_out(events)


def _leave_last_out(events: pa.Table) -> np.ndarray:
    """A user's last request is test, the one before validation; users with fewer than three are all training."""
    user = events["user_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    request = events["request_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first, inverse = np.unique(
        user * (int(request.max(initial=0)) + 1) + request, return_index=True, return_inverse=True
    )
    by_start = np.argsort(first)
    owner = user[first[by_start]]
    count = np.bincount(owner)
    last = np.cumsum(count) - 1
    from_end = np.empty(len(first), dtype=np.int64)
    from_end[by_start] = last[owner] - np.arange(len(first))
    code = np.select([from_end == 0, from_end == 1], [2, 1], 0)
    return np.where(count[user] >= 3, code[inverse], 0).astype(np.int8)


def _places(words: pa.ChunkedArray, names: tuple[str, ...]) -> pa.Array:
    return pc.index_in(words.combine_chunks(), value_set=pa.array(names)).cast(pa.int8())


def _values(events: pa.Table) -> pa.Array:
    """What each event was worth: a conversion's price, else the bid or eCPM; 0 where the log does not say."""
    price, bid, ecpm = (events[name].combine_chunks() for name in ("price", "bid", "ecpm"))
    converted = pc.equal(events["action"].combine_chunks(), "conversion")
    lesser = pc.coalesce(bid, ecpm, price)
    return pc.fill_null(pc.if_else(converted, pc.coalesce(price, bid, ecpm), lesser), 0.0).cast(pa.float32())
