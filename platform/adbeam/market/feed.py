"""Simulated traffic for the online loop: answers of the model in force, and what came of them, as serving logs both.

The files have the names and schemas of `serving/events/event_log.py`, users as keyed hashes; a conversion is written
when its moment has come, so late ones lie in later files. Everything is simulated.

Shapes: R requests, n shown ads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.declared.encoder import Codes, FeatureEncoder
from adbeam.inference.recommender import BATCH, Recommender
from adbeam.logs.requests import Request, UserSequence
from adbeam.market.log import AD, USER, ad_id, events_of, request_id, user_id, with_organic
from adbeam.market.play import NOTHING, Market
from adbeam.market.truth.scenes import SCENE_NAMES
from adbeam.market.world import START_MS, Requests, World
from adbeam.pseudonyms import pseudonym, user_key
from adbeam.records import ACTIONS, DAY_MS, EVENT_SCHEMA, ITEM_KINDS, REQUEST_SCHEMA, SPLITS
from adbeam.workdir import WorkDir


class Audience:
    """What is known about every simulated user: events in time order, growing with the market, and the codes of what
    the requests tell of them."""

    def __init__(self, sequences: dict[str, UserSequence], told: Mapping[str, Codes] | None = None) -> None:
        self._known, self._told = dict(sequences), told or {}

    def request(self, requests: Requests, place: int) -> Request:
        """One of the market's requests as the platform sees it."""
        now_ms, user = int(requests.time_R[place]), user_id(int(requests.user_R[place]))
        sequence = self._known.get(user) or _nobody(user)
        end = int(np.searchsorted(sequence.timestamp_H, now_ms, side="left"))
        none = np.zeros(0, dtype=np.int64)
        scene, codes = SCENE_NAMES[requests.scene_R[place]], self._told.get(user, ())
        return Request(sequence, request_id(requests, place), now_ms, end, scene, none, codes)

    def add(self, events: pa.Table) -> None:
        """Take in events of the log's schema."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in events.to_pylist():
            rows.setdefault(row["user_id"], []).append(row)
        for user, new in rows.items():
            known = self._known.get(user) or _nobody(user)
            columns = {
                "split_H": np.full(len(new), SPLITS.index("test"), np.int8),
                "request_H": np.array([row["request_id"] for row in new], object),
                "timestamp_H": np.array([row["timestamp"] for row in new], np.int64),
                "item_H": np.array([row["item_id"] for row in new], object),
                "kind_H": np.array([ITEM_KINDS.index(row["item_kind"]) for row in new], np.int8),
                "scene_H": np.array([row["scene"] for row in new], object),
                "action_H": np.array([ACTIONS.index(row["action"]) for row in new], np.int8),
                "value_H": np.array([row["price"] or row["bid"] or 0.0 for row in new], np.float32),
            }
            joined = {name: np.concatenate([getattr(known, name), part]) for name, part in columns.items()}
            order = np.argsort(joined["timestamp_H"], kind="stable")
            self._known[user] = UserSequence(user, **{name: part[order] for name, part in joined.items()})


def _nobody(user: str) -> UserSequence:
    none = np.zeros(0, dtype=object)
    number, real = np.zeros(0, np.int8), np.zeros(0, np.float32)
    return UserSequence(user, number, none, np.zeros(0, np.int64), none, number, none, number, real)


def live_ads(market: Market, requests: Requests, ads: Sequence[str]) -> np.ndarray:
    """bool [N], which of `ads` are live and have budget left on the day of the requests; organic items are none."""
    live_N = market.affordable(requests.day)
    return np.array([ad.startswith(AD) and live_N[int(ad.removeprefix(AD))] for ad in ads], dtype=bool)


def allowed_ads(world: World, asked: Sequence[Request], ads: Sequence[str], live_N: np.ndarray) -> list[np.ndarray]:
    """Which of `ads` may be shown for each request, bool [N] each: those of `live_N` whose rules allow the user."""
    if world.audiences is None:
        return [live_N] * len(asked)
    user_R = np.array([int(request.sequence.user_id.removeprefix(USER)) for request in asked], dtype=np.int64)
    row_N = np.array([int(ad.removeprefix(AD)) if ad.startswith(AD) else 0 for ad in ads])
    legal_RN = world.audiences.allowed_ads(world.users, user_R)[:, row_N]
    return list(legal_RN & live_N)


def shown_ads(
    rank: Callable[[list[Request]], list[list[str]]], audience: Audience, requests: Requests, count: int
) -> np.ndarray:
    """int [R, n] of the ads that `rank` gives for the requests, BATCH at a time; NOTHING where it has fewer."""
    shown = np.full((len(requests), count), NOTHING)
    for start in range(0, len(requests), BATCH):
        asked = [audience.request(requests, r) for r in range(start, min(start + BATCH, len(requests)))]
        for r, ads in enumerate(rank(asked), start=start):
            shown[r, : len(ads)] = [int(ad.removeprefix(AD)) for ad in ads]
    return shown


class Feed:
    """Plays days of the market with a recommender and writes what serving would."""

    def __init__(self, market: Market, audience: Audience, work_dir: Path, key_env: str = "ADBEAM_USER_KEY") -> None:
        self.market, self.audience = market, audience
        layout = WorkDir(work_dir)
        self.events, self.requests = layout.events, layout.requests
        for folder in (self.events, self.requests):
            folder.mkdir(parents=True, exist_ok=True)
        self._key = user_key(self.events, key_env)
        self._waiting: pa.Table | None = None
        """Events whose moment has not come."""

    def answer(self, recommender: Recommender, requests: Requests, widths: tuple[int, ...], count: int) -> np.ndarray:
        """int [R, n] of ads that the recommender shows, NOTHING where it has fewer."""
        live = live_ads(self.market, requests, recommender.catalogue.item_ids)

        def rank(asked: list[Request]) -> list[list[str]]:
            allowed = allowed_ads(self.market.world, asked, recommender.catalogue.item_ids, live)
            return recommender.rank(asked, widths, count, live=allowed)

        return shown_ads(rank, self.audience, requests, count)

    def play_day(
        self, recommender: Recommender, requests: Requests, widths: tuple[int, ...], count: int, version: str
    ) -> float:
        """Answer, draw what happens, write both logs; returns the expected revenue a request."""
        shown = self.answer(recommender, requests, widths, count)
        revenue = Market(self.market.world).expected_revenue(requests, shown)
        outcome = self.market.play(requests, shown)
        world = self.market.world
        events = with_organic(world, requests, events_of(world, requests, shown, outcome)).select(EVENT_SCHEMA.names)
        self._write_requests(recommender, requests, shown, version)
        self._write_events(events, START_MS + (requests.day + 1) * DAY_MS, requests.day)
        return float(revenue.mean())

    def _write_requests(self, recommender: Recommender, requests: Requests, shown: np.ndarray, version: str) -> None:
        rows = []
        for r in range(len(requests)):
            ads = [int(ad) for ad in shown[r] if ad >= 0]
            rows.append(
                {
                    "request_id": request_id(requests, r),
                    "user_id": pseudonym(self._key, user_id(int(requests.user_R[r]))),
                    "timestamp": int(requests.time_R[r]),
                    "scene": SCENE_NAMES[requests.scene_R[r]],
                    "model_version": version,
                    "source": "model",
                    "item_ids": [ad_id(ad) for ad in ads],
                    "sids": [list(recommender.sid(ad_id(ad)) or ()) for ad in ads],
                    "log_probabilities": [None for _ in ads],
                    "expected_ecpm": [None for _ in ads],
                }
            )
        _publish(pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA), self.requests, f"requests-{requests.day:05d}")

    def _write_events(self, events: pa.Table, until_ms: int, day: int) -> None:
        """Those whose moment has come; the audience knows them from then on."""
        if self._waiting is not None:
            events = pa.concat_tables([self._waiting, events])
        due = pa.array(events.column("timestamp").to_numpy() < until_ms)
        ready, self._waiting = events.filter(due), events.filter(pc.invert(due))
        self.audience.add(ready)
        users = [pseudonym(self._key, user) for user in ready.column("user_id").to_pylist()]
        hashed = ready.set_column(
            ready.column_names.index("user_id"), EVENT_SCHEMA.field("user_id"), pa.array(users, pa.string())
        )
        _publish(hashed.cast(EVENT_SCHEMA), self.events, f"events-{day:05d}")


def audience_of(sequences: Sequence[UserSequence], told: Mapping[str, Codes] | None = None) -> Audience:
    """The users of a prepared simulated log; `told` are the codes of each, as `codes_of_users` makes them."""
    return Audience({sequence.user_id: sequence for sequence in sequences}, told)


def codes_of_users(world: World, encoder: FeatureEncoder | None) -> dict[str, Codes]:
    """{user: codes of what its requests tell}, of all users of the market; empty where a model is told nothing."""
    if encoder is None:
        return {}
    numbers = np.arange(world.config.users)
    columns = world.users.columns(numbers)
    told = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return dict(zip(map(user_id, numbers.tolist()), encoder.codes(told), strict=True))


def _publish(table: pa.Table, folder: Path, name: str) -> None:
    partial = folder / f".{name}.partial"
    pq.write_table(table, partial)
    partial.rename(folder / f"{name}.parquet")
