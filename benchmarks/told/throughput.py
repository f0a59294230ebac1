"""The HTTP border of a replica with profiles, caps and budgets, beside the same without.

Both serve one bundle in turn. Every user has a profile and some impressions, every ad is of a campaign, and every
campaign has a budget that lasts.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from adbeam.budgets.ledger import Budget
from adbeam.budgets.sqlite import SqliteLedger
from adbeam.catalogue.updates import AdUpdate, SqliteUpdateLog
from adbeam.records import Action, Event
from adbeam.serving.stores.profiles import profile_text
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import now_ms
from benchmarks.money.border import HERE, SETTINGS, STORE, compare, side

USERS, CAMPAIGNS, IMPRESSIONS, PAGE = 997, 200, 8, 1000
FEATURES = {"age": {"kind": "number", "source": "user"}, "segment": {"kind": "category", "source": "user"}}
CAPS = [{"of": "ad", "most": 5, "hours": 24}, {"of": "campaign", "most": 500, "hours": 24}]


def http_figures(bundle: Path, slices: int) -> dict[str, Any]:
    """`profile_http_ratio`: requests a second of processor time, with over without."""
    items: list[str] = pq.read_table(bundle / "catalogue.parquet", columns=["item_id"])["item_id"].to_pylist()
    with tempfile.TemporaryDirectory() as folder:
        told, plain = Path(folder) / "told", Path(folder) / "plain"
        for place in (told, plain):
            place.mkdir()
            _campaigns(place, items)
            _impressions(place, items)
        _profiles(told)
        _budgets(told)
        shared = {"updates": {"path": str(plain / "changes.sqlite")}}
        (plain / SETTINGS).write_text(json.dumps(shared))
        ledger = {"budgets": {"path": str(told / "budgets.sqlite")}}
        (told / SETTINGS).write_text(json.dumps(shared | ledger | {"features": FEATURES, "frequency_caps": CAPS}))
        found = compare([side(HERE, bundle, told), side(HERE, bundle, plain)], slices)
    return {"profile_http_ratio": found.pop("http_ratio"), **{f"profile_{name}": each for name, each in found.items()}}


def _campaigns(place: Path, items: list[str]) -> None:
    log = SqliteUpdateLog(place / "changes.sqlite")
    for start in range(0, len(items), PAGE):
        page = enumerate(items[start : start + PAGE], start)
        log.append([AdUpdate(operation="update", item_id=item, campaign=f"c{row % CAMPAIGNS}") for row, item in page])


def _impressions(place: Path, items: list[str]) -> None:
    random, now = np.random.default_rng(0), now_ms()
    store = SqliteStore(place / STORE)
    for user in range(USERS):
        shown = random.integers(0, len(items), IMPRESSIONS).tolist()
        store.append(
            [
                Event(
                    event_id=f"{user}-{n}",
                    request_id=f"{user}-{n}",
                    user_id=f"user{user}",
                    item_id=items[row],
                    timestamp=now - 60_000 * (1 + n),
                    action=Action.IMPRESSION,
                )
                for n, row in enumerate(shown)
            ]
        )


def _profiles(place: Path) -> None:
    random = np.random.default_rng(1)
    told = ((("age", float(random.integers(18, 80))), ("segment", f"s{random.integers(9)}")) for _ in range(USERS))
    SqliteStore(place / STORE).put_profiles({f"user{user}": profile_text(profile) for user, profile in enumerate(told)})


def _budgets(place: Path) -> None:
    ledger = SqliteLedger(place / "budgets.sqlite")
    for campaign in range(CAMPAIGNS):
        ledger.set(f"c{campaign}", Budget(day=1e6, pacing="even" if campaign % 2 else "asap"))
