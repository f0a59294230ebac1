"""Answers of a bundle on the simulated market: what they promise, what they are truly worth, and what comes of them.

They are priced by the code that prices a replica's answers; the fallback shows the most popular ads that are live.

Shapes: R requests, n ads of an answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.bundle import load_bundle
from adbeam.catalogue.blocked import Blocked
from adbeam.decoding import ItemFilter
from adbeam.inference.recommender import BATCH, Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences
from adbeam.market.feed import audience_of, live_ads
from adbeam.market.log import events_of, request_id, user_id
from adbeam.market.play import NOTHING, Market
from adbeam.market.world import SCENES, Requests, World
from adbeam.records import EVENT_SCHEMA, REQUEST_SCHEMA
from adbeam.serving.engine.prices import AnswerPrices
from adbeam.workdir import WorkDir

FALLBACK_SIZE = 200


@dataclass(frozen=True)
class Answers:
    """The ads shown for the requests of a day, with the promised money of a thousand impressions."""

    requests: Requests
    ad_Rn: np.ndarray
    """Number of the ad, NOTHING where an answer is short."""
    priced_Rn: np.ndarray
    source: str
    version: str

    def true(self, world: World) -> np.ndarray:
        """[R, n] true money of a thousand impressions."""
        ads = np.where(self.ad_Rn == NOTHING, 0, self.ad_Rn)
        true_Rn: np.ndarray = world.ecpm(self.requests.user_R, ads, self.requests.day)
        return np.where(self.ad_Rn == NOTHING, np.nan, true_Rn)


class Bidder:
    """The bundle in force of a work_dir, answering the market's requests."""

    def __init__(self, world: World, work_dir: Path, path: Path | None = None) -> None:
        self.world, self.market = world, Market(world)
        prepared = PreparedLog.open(WorkDir(work_dir).prepared, verify=False)
        shards = prepared.sequences()
        self._audience = audience_of([sequence for shard in shards for sequence in read_sequences(shard)])
        bundle = load_bundle(path or WorkDir(work_dir).bundles)
        self.version = bundle.version
        self._ranks = Recommender.of(bundle, "expected_value", include_paused=True, trends=prepared.trends(), ecpm=True)
        self._widths = tuple(bundle.ladder_quality["full_widths"])
        self._prices = AnswerPrices(bundle, self._ranks.catalogue, None)
        self._popular = self._ranks.catalogue.popular(len(self._ranks.catalogue), self._prices.fallback)

    def model(self, requests: Requests, count: int) -> Answers:
        """What the model finds."""
        ids = self._ranks.catalogue.item_ids
        live_R = live_ads(self.market, requests, ids)
        ads, priced = np.full((len(requests), count), NOTHING), np.full((len(requests), count), np.nan)
        for start in range(0, len(requests), BATCH):
            asked = [self._audience.request(requests, r) for r in range(start, min(start + BATCH, len(requests)))]
            results = self._ranks.decoder.decode(
                self._ranks.contexts(asked), [self._widths] * len(asked), [ItemFilter(allow=live_R)] * len(asked), count
            )
            for r, (request, result) in enumerate(zip(asked, results, strict=True), start):
                found = self._ranks.expand(result, count, allow_R=live_R)
                ads[r, : len(found)] = [_number(ids[ad.row]) for ad in found]
                priced[r, : len(found)] = self._prices.price([found], [request.scene])[0]
        return Answers(requests, ads, priced, "model", self.version)

    def fallback(self, requests: Requests, count: int) -> Answers:
        """Popular ads, a few of FALLBACK_SIZE in turn, as filters of requests would leave them."""
        ids = self._ranks.catalogue.item_ids
        gone = {ids[row] for row in np.flatnonzero(~live_ads(self.market, requests, ids)).tolist()}
        lists = {scene: self._popular.pick(Blocked(frozenset(gone)), FALLBACK_SIZE, scene) for scene in SCENES}
        ads, priced = np.full((len(requests), count), NOTHING), np.full((len(requests), count), np.nan)
        for r, scene in enumerate(requests.scene_R.tolist()):
            start = count * r % FALLBACK_SIZE
            chosen = list(itertools.islice(lists[SCENES[scene]], start, start + count))
            ads[r, : len(chosen)] = [_number(ad["item_id"]) for ad in chosen]
            priced[r, : len(chosen)] = [ad["expected_ecpm"] for ad in chosen]
        return Answers(requests, ads, priced, "fallback", self.version)


def calibration(answers: Answers, world: World) -> dict[str, Any]:
    """Promised over true money: overall, by scene, by decile of what was promised."""
    true_Rn = answers.true(world)
    known_Rn = np.isfinite(answers.priced_Rn) & np.isfinite(true_Rn)
    scene_Rn = np.broadcast_to(answers.requests.scene_R[:, None], true_Rn.shape)[known_Rn]
    priced, true = answers.priced_Rn[known_Rn], true_Rn[known_Rn]
    deciles = np.array_split(np.argsort(priced, kind="stable"), 10)
    return {
        "overall": float(priced.sum() / true.sum()),
        "scenes": {
            name: float(priced[scene_Rn == s].sum() / true[scene_Rn == s].sum()) for s, name in enumerate(SCENES)
        },
        "deciles": [float(priced[part].sum() / true[part].sum()) for part in deciles],
    }


def post(answers: Answers, world: World, work_dir: Path, name: str) -> None:
    """What serving would log of the answers, and the events that the market's users would send."""
    layout, requests = WorkDir(work_dir), answers.requests
    rows: list[Mapping[str, Any]] = [_row(answers, r, name) for r in range(len(requests))]
    _write(pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA), layout.requests / f"requests-{name}.parquet")
    outcome = Market(world).play(requests, answers.ad_Rn, seed=len(name))
    events = events_of(world, requests, answers.ad_Rn, outcome).to_pydict()
    kept = _unthinned(events, answers, outcome, name)
    _write(kept, layout.events / f"events-{name}.parquet")


def _row(answers: Answers, r: int, name: str) -> dict[str, Any]:
    requests, known = answers.requests, np.flatnonzero(answers.ad_Rn[r] != NOTHING)
    return {
        "request_id": f"{name}-{request_id(requests, r)}",
        "user_id": user_id(int(requests.user_R[r])),
        "timestamp": int(requests.time_R[r]),
        "scene": SCENES[requests.scene_R[r]],
        "model_version": answers.version,
        "source": answers.source,
        "item_ids": [f"ad{answers.ad_Rn[r, n]}" for n in known],
        "sids": [[] for _ in known],
        "log_probabilities": [None for _ in known],
        "expected_ecpm": [float(answers.priced_Rn[r, n]) for n in known],
    }


def _unthinned(events: dict[str, list[Any]], answers: Answers, outcome: Any, name: str) -> pa.Table:
    """Every impression, not only those that the market's own log keeps; clicks and conversions as they are."""
    table = pa.table({key: events[key] for key in EVENT_SCHEMA.names}).cast(EVENT_SCHEMA)
    deeds = table.filter(pa.compute.not_equal(table["action"], "impression"))
    place, slot = np.nonzero(outcome.looked)
    ads, requests = answers.ad_Rn[place, slot], answers.requests
    shown = {
        "event_id": [f"{p}-{n}-impression" for p, n in zip(place.tolist(), slot.tolist(), strict=True)],
        "request_id": [request_id(requests, p) for p in place.tolist()],
        "user_id": [user_id(int(requests.user_R[p])) for p in place.tolist()],
        "timestamp": requests.time_R[place],
        "item_id": [f"ad{ad}" for ad in ads.tolist()],
        "item_kind": ["ad"] * len(ads),
        "scene": [SCENES[requests.scene_R[p]] for p in place.tolist()],
        "action": ["impression"] * len(ads),
        **{column: pa.nulls(len(ads), pa.float64()) for column in ("bid", "ecpm", "price")},
        "position": slot.astype(np.int32),
    }
    joined = pa.concat_tables([deeds, pa.table({key: shown[key] for key in EVENT_SCHEMA.names}).cast(EVENT_SCHEMA)])
    for column in ("request_id", "event_id"):
        named = pa.array([f"{name}-{value}" for value in joined[column].to_pylist()])
        joined = joined.set_column(joined.column_names.index(column), EVENT_SCHEMA.field(column), named)
    return joined


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _number(item_id: str) -> int:
    return int(item_id.removeprefix("ad"))
