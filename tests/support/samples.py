"""A small ad log made by the tests: it has structure a model can learn, and no row of any real data set.

Every user likes two categories and returns to some items they bought before. A visit is one request: a few
conversions, ads or organic, and an impression without effect. Prices depend on the category, scenes on the item kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.records import CATALOGUE_SCHEMA, EVENT_SCHEMA

START_MS = 1_600_000_000_000
DAY_MS = 86_400_000
DAYS = 100
VALIDATION_FROM_MS = START_MS + 80 * DAY_MS
TEST_FROM_MS = START_MS + 90 * DAY_MS
CATEGORIES = ("bread", "cheese", "coffee", "fruit", "pasta", "soap", "tea", "wine")
SCENES = ("mailer", "display")


@dataclass(frozen=True)
class SampleLog:
    """Where the sample lies, and the `logs` section that prepares it."""

    events: Path
    catalogue: Path

    @property
    def settings(self) -> dict[str, Any]:
        """Values for LogsConfig."""
        return {
            "source": "files",
            "files": {"events": str(self.events), "catalogue": str(self.catalogue)},
            "split": {"by": "time", "validation_from": VALIDATION_FROM_MS, "test_from": TEST_FROM_MS},
            "shards": 2,
        }


def write_sample_log(folder: Path, users: int = 60, items: int = 120, seed: int = 0, visits: int = 20) -> SampleLog:
    """Write `events.parquet` and `catalogue.parquet` into `folder`; the same arguments give the same log."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = sample_catalogue(items, seed)
    sample = SampleLog(folder / "events.parquet", folder / "catalogue.parquet")
    pq.write_table(catalogue, sample.catalogue)
    pq.write_table(sample_events(catalogue, users, visits, seed), sample.events)
    return sample


def write_sample_prepared(work_dir: Path, **arguments: int) -> PreparedLog:
    """A sample log (arguments as of write_sample_log) prepared into `work_dir / "prepared"`, without Ray."""
    sample = write_sample_log(Path(work_dir) / "sample", **arguments)
    settings = SimpleNamespace(work_dir=Path(work_dir), logs=LogsConfig.parse(sample.settings))
    return run(settings, in_process=True)


def sample_catalogue(items: int, seed: int = 0) -> pa.Table:
    """`items` catalogue rows, two thirds of them ads; the category decides the price range."""
    rng = np.random.default_rng((seed, 1))
    rows = []
    for number in range(items):
        category = CATEGORIES[number % len(CATEGORIES)]
        price = round(float((1 + number % len(CATEGORIES)) * rng.uniform(0.8, 1.2)), 2)
        kind = "organic" if number % 3 == 2 else "ad"
        rows.append(
            {
                "item_id": f"item{number}",
                "kind": kind,
                "title": f"{category} {('plain', 'fine', 'large')[number % 3]} no {number}",
                "category": category,
                "brand": f"brand{number % 5}",
                "advertiser": f"maker{number % 7}",
                "price": price,
                "ecpm": round(price * float(rng.uniform(0.5, 2.0)), 3) if kind == "ad" else None,
                "status": "active",
            }
        )
    return pa.Table.from_pylist(rows, schema=CATALOGUE_SCHEMA)


def sample_events(catalogue: pa.Table, users: int, visits: int, seed: int = 0) -> pa.Table:
    """About four events a visit, `visits` visits a user, over 100 days in time order."""
    rng = np.random.default_rng((seed, 2))
    rows = []
    for user in range(users):
        rows.extend(_user_events(f"user{user}", catalogue.to_pylist(), visits, rng))
    rows.sort(key=lambda row: row["timestamp"])
    return pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)


def _user_events(user: str, items: list[dict[str, Any]], visits: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    liked = rng.choice(len(CATEGORIES), size=2, replace=False)
    pool = [item for place, item in enumerate(items) if place % len(CATEGORIES) in liked] or items
    popularity = 1 / np.arange(1, len(pool) + 1)
    popularity /= popularity.sum()
    bought: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    days = np.sort(rng.uniform(0, DAYS, size=visits))
    for visit, day in enumerate(days):
        moment = START_MS + int(day * DAY_MS)
        chosen: dict[str, dict[str, Any]] = {}
        for _ in range(int(rng.integers(2, 5))):
            repeat = bought and rng.random() < 0.35
            item = bought[rng.integers(len(bought))] if repeat else pool[rng.choice(len(pool), p=popularity)]
            chosen[item["item_id"]] = item
        shown = [item for item in items if item["kind"] == "ad" and item["item_id"] not in chosen]
        events = [(item, "conversion") for item in chosen.values()]
        events += [(shown[rng.integers(len(shown))], "impression")] if shown else []
        bought.extend(chosen.values())
        rows.extend(_event(user, visit, moment, place, *event, rng) for place, event in enumerate(events))
    return rows


def _event(
    user: str, visit: int, moment: int, place: int, item: dict[str, Any], action: str, rng: np.random.Generator
) -> dict[str, Any]:
    ad = item["kind"] == "ad"
    return {
        "event_id": f"{user}-{visit}-{place}",
        "request_id": f"{user}-{visit}",
        "user_id": user,
        "timestamp": moment,
        "item_id": item["item_id"],
        "item_kind": item["kind"],
        "scene": SCENES[int(item["item_id"][4:]) % 2] if ad else "organic",
        "action": action,
        "bid": None,
        "ecpm": item["ecpm"],
        "price": round(item["price"] * float(rng.uniform(0.9, 1.1)), 2) if action == "conversion" else None,
        "position": place,
    }
