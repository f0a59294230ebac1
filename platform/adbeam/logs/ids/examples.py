"""Examples for error messages: ids that match nothing, and a bad row without the person it is about."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

SHOWN = ("timestamp", "item_id", "item_kind", "action", "scene", "price", "bid", "ecpm", "position")
"""What a message may show of a row: a console and its logs are read by more people than the log is,
and ids of events and requests often hold that of the user."""


def without_people(row: str) -> str:
    """A quarantined row with the fields of the contract that name nobody; a line that is no row is not shown."""
    try:
        fields = json.loads(row)
    except ValueError:
        return "a line that is no row" if row else ""
    if not isinstance(fields, dict):
        return "a line that is no row"
    return json.dumps({name: fields[name] for name in SHOWN if name in fields}, ensure_ascii=False)


def unmatched(rows: Iterable[str], catalogue: Path) -> str:
    """Two items of quarantined rows beside two of the catalogue: how a join that finds nothing went wrong."""
    there = (json.loads(row).get("item_id") for row in rows)
    log = list(dict.fromkeys(str(item) for item in there if item is not None))[:2]
    known = next(pq.ParquetFile(catalogue).iter_batches(2, columns=["item_id"])).column(0).to_pylist()
    return f"the log has items such as {_listed(log)}, the catalogue such as {_listed(known)}"


def _listed(ids: list[str]) -> str:
    return " and ".join(map(repr, ids))
