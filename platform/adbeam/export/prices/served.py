"""What a bundle's own answers brought against what they were priced: the log of serving corrects the prices.

The first prices come of impressions that another policy chose, which knew things of user and ad that the log does not
tell; answers of the model find other users for an ad, and fallbacks find anybody. Once a bundle serves, its own
impressions say what they bring.

Shapes: X impressions of served ads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.export.prices.curve import correction, level_of
from adbeam.pricing.scale import PER_MILLE, AdPrices, MoneyScale

GRID = 48
"""Points of a corrected curve."""
REACH = 4.0
"""The curve is drawn this far (in logs) beyond the prices that it had."""
REQUEST_COLUMNS = ("request_id", "scene", "source", "item_ids", "expected_ecpm", "model_version")
EVENT_COLUMNS = ("event_id", "request_id", "item_id", "action", "price", "bid", "ecpm")


@dataclass(frozen=True)
class Served:
    """One row for each served ad that was shown."""

    item_X: np.ndarray
    scene_X: np.ndarray
    fallback_X: np.ndarray
    """bool: from the fallback; else from model or cache."""
    priced_X: np.ndarray
    """Money of a thousand impressions, as answered."""
    targets_X: np.ndarray
    money_X: np.ndarray

    def __len__(self) -> int:
        return len(self.item_X)


def read_served(requests: Iterable[Path], events: Iterable[Path], version: str, target: str) -> Served:
    """Impressions of the answers of one bundle, with the targets that followed, from the logs that serving writes.

    An event counts once by its id. Answers without prices and events of other requests are passed over.
    """
    answers, outcomes = _answers(requests, version), _outcomes(events, target)
    joined = answers.join(outcomes, ["request_id", "item_id"], join_type="inner").filter(pc.field("shown") > 0)
    column = {name: joined[name].to_numpy() for name in ("item_id", "scene", "source", "priced", "targets", "money")}
    return Served(column["item_id"], column["scene"], column["source"] == "fallback", column["priced"],
                  column["targets"].astype(np.float64), column["money"])  # fmt: skip


def reprice(prices: AdPrices, served: Served) -> tuple[AdPrices, dict[str, Any]]:
    """The prices moved to what came, and what was found by source: impressions, targets, priced and come money.

    Few targets move little (`curve.BIN_EVENTS`, `SCENE_EVENTS`).
    """
    worth = _worth(prices)
    scene_X = np.array([prices.scale.scenes.get(scene, 1.0) for scene in served.scene_X.tolist()])
    expected_X = served.priced_X / (PER_MILLE * worth)
    found: dict[str, Any] = {}
    scale = prices.scale
    for name, chosen in (("model", ~served.fallback_X), ("fallback", served.fallback_X)):
        found[name] = _account(served, chosen)
        if not chosen.any():
            continue
        came_X = served.money_X[chosen] / worth  # money, in targets of usual worth: what is dear is off by most
        if name == "fallback":
            scale = replace(scale, anybody=scale.anybody * float(np.exp(level_of(came_X, expected_X[chosen]))))
            continue
        curve, scenes = correction(served.priced_X[chosen] / scene_X[chosen], expected_X[chosen], came_X,
                                   served.scene_X[chosen])  # fmt: skip
        scale = _moved(scale, curve, scenes)
    return AdPrices(scale, prices.rates), found


def _moved(scale: MoneyScale, curve: tuple[tuple[float, ...], ...], scenes: dict[str, float]) -> MoneyScale:
    """The scale followed by a correction: its curve is drawn anew over both."""
    if not curve[0]:
        return scale
    step = replace(scale, curve=(curve[0], curve[1]))
    ends = [*scale.curve[0], *curve[0]]
    at = np.linspace(min(ends) - REACH, max(ends) + REACH, GRID)
    by = step.bent(scale.bent(at)) - at
    moved = {name: scale.scenes.get(name, 1.0) * scenes.get(name, 1.0) for name in {*scale.scenes, *scenes}}
    return replace(scale, curve=(tuple(at.tolist()), tuple(by.tolist())), scenes=dict(sorted(moved.items())))


def _worth(prices: AdPrices) -> float:
    """What a target usually brings: the mean over the ads of whose targets something is known."""
    mean = pc.mean(prices.rates["mean"].filter(pc.greater(prices.rates["mean"], 0.0))).as_py()
    return float(mean or 1.0)


def _account(served: Served, chosen: np.ndarray) -> dict[str, float]:
    count = int(chosen.sum())
    return {
        "impressions": count,
        "targets": float(served.targets_X[chosen].sum()),
        "priced": float(served.priced_X[chosen].mean()) if count else 0.0,
        "came": PER_MILLE * float(served.money_X[chosen].mean()) if count else 0.0,
    }


def _answers(requests: Iterable[Path], version: str) -> pa.Table:
    """request_id, item_id, scene, source, priced: one row an answered ad with a price."""
    parts = [pq.read_table(path, columns=list(REQUEST_COLUMNS)) for path in requests]
    if not parts:
        return pa.table({**{name: pa.array([], pa.string()) for name in ("request_id", "item_id", "scene", "source")},
                         "priced": pa.array([], pa.float64())})  # fmt: skip
    table = pa.concat_tables(parts).filter(pc.field("model_version") == version).combine_chunks()
    parent = pc.list_parent_indices(table["item_ids"].combine_chunks())
    flat = {name: table[name].combine_chunks().take(parent) for name in ("request_id", "scene", "source")}
    flat["item_id"] = pc.list_flatten(table["item_ids"].combine_chunks())
    flat["priced"] = pc.list_flatten(table["expected_ecpm"].combine_chunks())
    return pa.table(flat).filter(pc.field("priced") > 0)


def _outcomes(events: Iterable[Path], target: str) -> pa.Table:
    """request_id, item_id, shown, targets, money: one row for each ad of a request that something is known of."""
    parts = [pq.read_table(path, columns=list(EVENT_COLUMNS)) for path in events]
    if not parts:
        parts = [pa.table({name: pa.array([], pa.string()) for name in EVENT_COLUMNS[:4]}
                          | {name: pa.array([], pa.float64()) for name in EVENT_COLUMNS[4:]})]  # fmt: skip
    table = pa.concat_tables(parts)
    first = table.group_by("event_id", use_threads=False).aggregate(
        [(name, "first") for name in EVENT_COLUMNS if name != "event_id"]
    )
    table = first.rename_columns([name.removesuffix("_first") for name in first.column_names])
    hit = pc.equal(table["action"], target)
    worth = pc.coalesce(table["price"], table["bid"], table["ecpm"], pa.scalar(0.0))
    if target != "conversion":
        worth = pc.coalesce(table["bid"], table["ecpm"], table["price"], pa.scalar(0.0))
    flags = {
        "shown": pc.cast(pc.equal(table["action"], "impression"), pa.int64()),
        "targets": pc.cast(hit, pa.int64()),
        "money": pc.if_else(hit, worth, 0.0),
    }
    rows = pa.table({"request_id": table["request_id"], "item_id": table["item_id"], **flags})
    summed = rows.group_by(["request_id", "item_id"], use_threads=False).aggregate([(n, "sum") for n in flags])
    return summed.rename_columns(["request_id", "item_id", *flags])
