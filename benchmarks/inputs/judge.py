"""One generated log through the reading of `prepare`, and whether what comes out is the log that was written."""

from __future__ import annotations

import contextlib
import io
import random
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.events.content_ids import content_ids
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.validate import FEATURE_TYPES
from adbeam.records import CATALOGUE_SCHEMA, EVENT_SCHEMA, SPLITS
from benchmarks.inputs.base import (
    EVENT_FEATURES,
    ITEM_FEATURES,
    TEST_FROM,
    VALIDATION_FROM,
    Row,
    base_log,
    is_good,
)
from benchmarks.inputs.damage import Written, apply
from benchmarks.inputs.files import filled, settings, table_files
from benchmarks.inputs.recipe import Recipe
from benchmarks.inputs.writers import write_file


@dataclass(frozen=True)
class Verdict:
    """What became of one generated log: same, refused, or a fault: silent, trace, refused wrongly, wordless."""

    seed: int
    outcome: str
    said: str = ""

    @property
    def right(self) -> bool:
        return self.outcome in ("same", "refused")


def write_log(recipe: Recipe, root: Path) -> Written:
    """Write the log of a recipe below `root`."""
    base = base_log(
        recipe.seed, number_ids=recipe.number_ids, long_ids=recipe.long_ids, letters=recipe.letters,
        whole_seconds=recipe.whole_seconds, lines=recipe.lines,
    )  # fmt: skip
    draw = random.Random(f"write {recipe.seed}")
    rows = [{name: row[name] for name in ("event_id", *recipe.events.names) if name in recipe.events.names}
            for row in base.events]  # fmt: skip
    event_files, events = table_files(rows, recipe.events, "log")
    item_files, items = table_files(base.items, recipe.items, "ads")
    paths = [write_file(file, root, draw) for file in [*event_files, *item_files]]
    split = {"by": "time", "validation_from": VALIDATION_FROM, "test_from": TEST_FROM}
    where = {
        name: str(root / name if writing.layout != "file" else paths[place])
        for name, writing, place in (("log", recipe.events, 0), ("ads", recipe.items, len(event_files)))
    }
    tables = {
        "events": settings(recipe.events, where["log"], EVENT_FEATURES),
        "catalogue": settings(recipe.items, where["ads"], ITEM_FEATURES),
    }
    written = Written(
        {"source": "files", "files": tables, "split": split, "shards": 2, "batch_rows": 16}, events, items
    )
    if recipe.damage:
        written.damaged = apply(recipe.damage, written, event_files, root, draw)
    return written


def judge(recipe: Recipe, root: Path) -> Verdict:
    """Write, prepare in this process, compare."""
    written = write_log(recipe, root)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            config = SimpleNamespace(work_dir=root / "work", logs=LogsConfig.parse(written.logs))
            prepared = run(config, in_process=True)
    except UserError as error:
        return _of_refusal(recipe.seed, str(error), written)
    except BaseException:
        return Verdict(recipe.seed, "trace", traceback.format_exc())
    differences = compare(prepared, written)
    if differences:
        return Verdict(recipe.seed, "silent", "; ".join(differences))
    if written.refused:
        return Verdict(recipe.seed, "silent", "should have been refused")
    return Verdict(recipe.seed, "same")


def _of_refusal(seed: int, said: str, written: Written) -> Verdict:
    if not written.refused:
        return Verdict(seed, "refused wrongly", said)
    named = any(name in said for name in written.names) and "; " in said
    return Verdict(seed, "refused" if named else "wordless", said)


def compare(prepared: PreparedLog, written: Written) -> list[str]:
    """What is not as it was written; nothing where all is."""
    account, found = prepared.account, []
    constants = written.logs["files"]["events"]["constants"]
    events = [filled(row, constants) for row in written.events]
    kept, items = _kept(events), _distinct(written.items)
    twice = sum(is_good(row) for row in events) - len(kept)
    expected = {
        "rows_in": len(written.events) + written.bad,
        "kept": len(kept),
        "duplicates": twice,
        "quarantined": len(written.events) - len(kept) - twice + written.bad,
        "users": len({row["user_id"] for row in kept}),
        "actions": dict(Counter(row["action"] for row in kept)),
        "splits": dict(zip(SPLITS, _splits(kept), strict=True)),
        "catalogue": {
            "rows_in": len(written.items),
            "kept": len(items),
            "quarantined": 0,
            "duplicates": len(written.items) - len(items),
        },
    }
    found += [f"{name}: {account[name]} for {value}" for name, value in expected.items() if account[name] != value]
    kinds = {item["item_id"]: item["kind"] for item in items}
    found += _differences(
        "events",
        pa.concat_tables(pq.read_table(path) for path in prepared.events()),
        _with_ids([_filled(row, kinds) for row in kept]),
        EVENT_SCHEMA.names,
    )
    found += _differences("catalogue", prepared.catalogue(), items, CATALOGUE_SCHEMA.names)
    return found


def _differences(what: str, table: pa.Table, rows: list[Row], names: list[str]) -> list[str]:
    columns = [*names, *(EVENT_FEATURES if what == "events" else ITEM_FEATURES)]
    key = "event_id" if what == "events" else "item_id"
    there = sorted(table.select(columns).to_pylist(), key=lambda row: row[key])
    wanted = sorted(({name: row[name] for name in columns} for row in rows), key=lambda row: row[key])
    if len(there) != len(wanted):
        return [f"{len(there)} {what} for {len(wanted)}"]
    for one, other in zip(there, wanted, strict=True):
        if one != other:
            apart = {name: (one[name], other[name]) for name in columns if one[name] != other[name]}
            return [f"{what} {one[key]}: {apart}"]
    return []


def _kept(rows: list[Row]) -> list[Row]:
    return _distinct([row for row in rows if is_good(row)])


def _distinct(rows: list[Row]) -> list[Row]:
    found: list[Row] = []
    for row in rows:
        if row not in found:
            found.append(row)
    return found


def _with_ids(rows: list[Row]) -> list[Row]:
    """Rows without an event_id have a hash of what they are, however they were written."""
    if "event_id" in rows[0]:
        return rows
    schema = pa.schema([*EVENT_SCHEMA, *(pa.field(name, FEATURE_TYPES[kind]) for name, kind in EVENT_FEATURES.items())])
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    ids = content_ids(pa.Table.from_pylist(rows, schema=nullable)).to_pylist()
    return [{**row, "event_id": event} for row, event in zip(rows, ids, strict=True)]


def _splits(rows: list[Row]) -> list[int]:
    first = sum(row["timestamp"] < VALIDATION_FROM for row in rows)
    last = sum(row["timestamp"] >= TEST_FROM for row in rows)
    return [first, len(rows) - first - last, last]


def _filled(row: Row, kinds: dict[str, str]) -> Row:
    """With the defaults of what is missing."""
    return {
        **row,
        "item_kind": row["item_kind"] or kinds[row["item_id"]],
        "scene": "default" if row["scene"] is None else row["scene"],
        "request_id": row["request_id"] or f"{row['user_id']}@{row['timestamp']}",
    }
