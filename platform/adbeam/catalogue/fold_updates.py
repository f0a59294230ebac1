"""The update log folded into a catalogue: a new bundle starts from it, and replicas replay only what came later."""

from __future__ import annotations

import logging
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from adbeam.bundle import SID_COLUMN
from adbeam.catalogue.follower import AdEncoder, encode_ad
from adbeam.catalogue.updates import AdUpdate, UpdateLog
from adbeam.errors import UserError
from adbeam.records import CAMPAIGN, Status
from adbeam.targeting.rules import TARGETING, read_rules

log = logging.getLogger(__name__)


def fold_updates(catalogue: pa.Table, updates: UpdateLog, encoder: AdEncoder) -> tuple[pa.Table, int]:
    """(the catalogue with every update of the log applied, the number of the last one).

    `catalogue` has a column `sid`. An ad that has a SID there keeps it: it was made with what users did with the ad.
    A removed ad stays as a paused one, so that histories still know it. Updates that cannot be applied are left out.
    """
    watermark, rows = 0, _Rows(catalogue)
    changed: dict[str, dict[str, Any]] = {}
    while page := updates.read(watermark):
        for number, _, update in page:
            watermark = number
            try:
                changed[update.item_id] = _changed(changed.get(update.item_id) or rows.row(update.item_id), update)
            except KeyError:
                log.warning("update %d of unknown ad %s left out", number, update.item_id)
    for item_id, row in list(changed.items()):
        try:
            item = row.pop("item", None)
            if item is not None and row.get("sid") is None:
                row["sid"] = list(encode_ad(encoder, item))
        except UserError as error:
            log.warning("ad %s left out: %s", item_id, error)
            del changed[item_id]
    return rows.with_rows(changed), watermark


def _changed(row: dict[str, Any] | None, update: AdUpdate) -> dict[str, Any]:
    """The row after one update; raises KeyError when there is none to change."""
    if update.operation == "insert":
        assert update.item is not None
        known = {name: value for name, value in (row or {}).items() if name in ("sid", "popularity")}
        given = update.item.model_dump(mode="json")
        given[TARGETING] = _text(update.item.targeting)
        return {**given.pop("features"), **given, **known, "item": update.item}
    if row is None:
        raise KeyError(update.item_id)
    if update.operation == "update":
        changes: dict[str, Any] = {} if update.ecpm is None else {"ecpm": update.ecpm}
        changes |= {
            name: value or None for name in ("advertiser", CAMPAIGN) if (value := getattr(update, name)) is not None
        }
        return {**row, **changes, **({} if update.targeting is None else {TARGETING: _text(update.targeting)})}
    active = update.operation == "resume"
    return {**row, "status": (Status.ACTIVE if active else Status.PAUSED).value}


def _text(rules: dict[str, Any] | None) -> str | None:
    """Rules as the catalogue keeps them."""
    return None if rules is None else read_rules(rules, None).text


class _Rows:
    """Rows of a table by item id, without turning the whole table into Python objects."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        ids = table.column("item_id").to_pylist()
        self._place = {item_id: place for place, item_id in enumerate(ids)}

    def row(self, item_id: str) -> dict[str, Any] | None:
        place = self._place.get(item_id)
        return None if place is None else self.table.slice(place, 1).to_pylist()[0]

    def with_rows(self, changed: dict[str, dict[str, Any]]) -> pa.Table:
        """The table with these rows in the place of those of the same id, or behind them."""
        if not changed:
            return self.table
        table = self.table
        for name in (CAMPAIGN, TARGETING):
            if name not in table.column_names and any(row.get(name) for row in changed.values()):
                place = table.column_names.index(SID_COLUMN)
                table = table.add_column(place, name, pa.nulls(table.num_rows, pa.string()))
        names = table.column_names
        rows = [{name: row.get(name) for name in names} for row in changed.values()]
        if "popularity" in names:
            rows = [{**row, "popularity": row["popularity"] or 0} for row in rows]
        stays = pc.invert(pc.is_in(table.column("item_id"), value_set=pa.array(list(changed), pa.string())))
        return pa.concat_tables([table.filter(stays), pa.Table.from_pylist(rows, schema=table.schema)])
