"""Budgets as they are kept over HTTP: two replicas on one Redis, answers and impressions as users make them.

First the pace is measured at which campaigns spend without budgets; then each gets what it would spend in `--seconds`
at that pace, and requests go on until all of it must be gone. Prices of impressions scatter around what answers
expected. The load generator knows every price, so that it knows which event takes the last money of a campaign:

* `pause_visible_ms`: the last answer with an ad of a campaign, after that event; the worst campaign counts.
* `budget_overspend`: money beyond the budget, as a share of it; the worst campaign counts. `budget_in_flight` is the
  share whose ads had been answered when the last money went, and whose impressions came after.
* `budget_overspend_late`: the same with impressions that come `--late` seconds after their answer, and money that is
  held back for half as long again (below 0: so much is not spent yet); `budget_held_late` is the most that was held
  back, as a share of the budget.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from tests.support.redis_server import free_port, redis_server
from tests.support.replicas import start_replicas, stop_replicas, write_tokenized_bundle

from adbeam.budgets.ledger import Budget
from adbeam.budgets.redis import RedisLedger
from adbeam.catalogue.updates import AdUpdate, SqliteUpdateLog
from adbeam.errors import UserError
from adbeam.loadtest.connections import HttpPool
from adbeam.serving.stores.store import now_ms
from adbeam.workdir import WorkDir

ADS, CAMPAIGNS, USERS, COUNT, PAGE = 400, 4, 5000, 4, 1000
OWNED = 0.5
"""Share of the ads that are of a campaign."""
SHOWN = 0.9
"""Share of the answered ads that become impressions."""
ON_TIME_SECONDS = (0.02, 0.5)
HELD_SECONDS = 2.0
"""How long money is held back for impressions that come in time: what is never shown, or told to the other replica, is
free again after it."""
LATE_WIN_SECONDS = 1.0
KEY = "{budgets}"


@dataclass
class _Campaign:
    """What the load generator knows of one campaign; seconds are monotonic."""

    budget: float = float("inf")
    expected: float = 0.0
    spent: float = 0.0
    after: float = 0.0
    """Money of impressions behind the one that took the last."""
    gone_s: float = float("inf")
    wins_s: list[float] = field(default_factory=list)

    def shown(self, money: float) -> None:
        """An impression was accepted."""
        self.after += money if self.spent >= self.budget else 0.0
        self.spent += money
        if self.spent >= self.budget and self.gone_s == float("inf"):
            self.gone_s = time.monotonic()


class _Users:
    """Ask both replicas in turn, and tell either of them of impressions."""

    def __init__(self, ports: list[int], seed: int) -> None:
        kind = {"Content-Type": "application/json"}
        self._ask, self._tell = (
            [HttpPool(f"http://127.0.0.1:{port}/v1/{path}", kind) for port in ports] for path in ("ads", "events")
        )
        self._rng, self._next, self._tasks = np.random.default_rng(seed), 0, set[asyncio.Task[None]]()
        self.campaigns: dict[str, _Campaign] = {f"c{place}": _Campaign() for place in range(CAMPAIGNS)}
        self.late_wins = self.refused = 0

    async def run(self, seconds: float, rate: float, delay: tuple[float, float]) -> None:
        """Open loop: `rate` requests a second for so long, and every impression `delay` seconds after its answer."""
        start, number = time.monotonic(), 0
        while (due := start + number / rate) < start + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._one(float(self._rng.uniform(*delay))))
            self._tasks.add(task)
            number += 1
        await asyncio.gather(*self._tasks)
        self._tasks.clear()

    async def _one(self, delay: float) -> None:
        self._next += 1
        user, turn = f"u{self._rng.integers(USERS)}", self._next % 2
        body = json.dumps({"user_id": user, "count": COUNT, "request_id": f"r{self._next}"}).encode()
        answer = await self._ask[turn].post(body)
        if answer.status != 200:
            self.refused += 1
            return
        found, events, now = json.loads(answer.body), [], time.monotonic()
        for ad in found["ads"]:
            campaign = self.campaigns.get(ad.get("campaign", ""))
            if campaign is None:
                continue
            campaign.wins_s.append(now)
            campaign.expected += ad["expected_ecpm"] / 1000
            self.late_wins += now > campaign.gone_s + LATE_WIN_SECONDS
            if self._rng.random() < SHOWN:
                price = ad["expected_ecpm"] / 1000 * float(self._rng.uniform(0.7, 1.3))
                events.append((campaign, price, {
                    "event_id": f"{found['request_id']}/{ad['item_id']}", "request_id": found["request_id"],
                    "user_id": user, "item_id": ad["item_id"], "action": "impression", "price": price,
                }))  # fmt: skip
        if events:
            await asyncio.sleep(delay)
            stamped = [event | {"timestamp": now_ms()} for _, _, event in events]
            told = await self._tell[int(self._rng.integers(2))].post(json.dumps({"events": stamped}).encode())
            if told.status >= 300:
                raise UserError(f"events were refused with {told.status}: {told.body[:200]!r}")
            for campaign, price, _ in events:
                campaign.shown(price)

    def close(self) -> None:
        """Close the connections."""
        for pool in (*self._ask, *self._tell):
            pool.close()


def budget_figures(bundle: Path | None, seconds: float, rate: float, late_seconds: float) -> dict[str, Any]:
    """The figures of both runs; events that come late are left out where `late_seconds` is 0."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name), free_port()) as url:
        folder = Path(name)
        served = bundle or write_tokenized_bundle(WorkDir(folder).bundles, ADS, full_widths=(4, 8, 16))
        found = _run(folder / "on-time", served, url, seconds, rate, ON_TIME_SECONDS, HELD_SECONDS)
        if late_seconds:
            late = _run(
                folder / "late", served, url, 2 * late_seconds, rate, (late_seconds, late_seconds), 1.5 * late_seconds
            )
            found |= {f"{name}_late": late[name] for name in ("budget_overspend", "budget_held", "budget_late_wins")}
        return found


def _run(
    folder: Path, bundle: Path, url: str, seconds: float, rate: float, delay: tuple[float, float], held_seconds: float
) -> dict[str, Any]:
    folder.mkdir()
    _campaigns(folder / "changes.sqlite", bundle)
    key = f"{KEY}:{folder.name}"
    args = {
        "bundle": str(bundle), "policy": "deadline", "updates": {"path": str(folder / "changes.sqlite")},
        "store": {"backend": "redis", "redis": {"urls": [url], "key_prefix": folder.name}},
        "budgets": {"redis_url": f"{url}/1", "redis_key": key, "reserved_seconds": held_seconds},
        "engine": {"calibration_seconds": 0.5, "ecpm_scale": 1000.0}, "deadline": {"max_ms": 10_000},
    }  # fmt: skip
    ports = [free_port(), free_port()]
    replicas = start_replicas(args, ports)
    ledger = RedisLedger(f"{url}/1", key)
    try:
        return asyncio.run(_measured(ports, ledger, seconds, rate, delay))
    finally:
        stop_replicas(replicas)
        ledger.close()


async def _measured(
    ports: list[int], ledger: RedisLedger, seconds: float, rate: float, delay: tuple[float, float]
) -> dict[str, Any]:
    warm_seconds = min(20.0, max(5.0, seconds / 10))
    first = _Users(ports, seed=0)
    await first.run(warm_seconds, rate, (0.0, 0.01))
    first.close()
    pace = {name: one.expected * SHOWN / warm_seconds for name, one in first.campaigns.items()}
    users = _Users(ports, seed=1)
    users._next = 1_000_000  # ids of events are counted once
    for name, one in users.campaigns.items():
        one.budget = pace[name] * seconds
        if one.budget > 0:
            ledger.set(name, Budget(total=one.budget))
    await asyncio.sleep(1.0)
    held = [0.0]
    watching = asyncio.create_task(_watch(ledger, held))
    await users.run(1.25 * seconds + 2 * delay[1] + 5, rate, delay)
    watching.cancel()
    users.close()
    spent = [one for one in users.campaigns.values() if one.budget > 0]
    gone = [one for one in spent if one.gone_s < float("inf")]
    if not gone and delay[1] < LATE_WIN_SECONDS:
        raise UserError("no campaign has spent its budget", remedy="more --seconds, or a higher --rate")
    after = [1000 * max(0.0, one.wins_s[-1] - one.gone_s) for one in gone]
    return {
        "budget_overspend": max(one.spent / one.budget - 1 for one in spent),
        "budget_in_flight": max(one.after / one.budget for one in spent),
        "pause_visible_ms": max(after, default=None),
        "budget_late_wins": users.late_wins,
        "budget_held": held[0],
        "budgets_spent": len(gone),
        "budget_campaigns": len(spent),
        "budget_refused": users.refused,
    }


async def _watch(ledger: RedisLedger, held: list[float]) -> None:
    """Keep the largest share of a budget that was held back."""
    while True:
        accounts = await asyncio.to_thread(ledger.accounts, "", now_ms())
        shares = [one.reserved / one.budget.total for one in accounts.values() if one.budget.total]
        held[0] = max([held[0], *shares])
        await asyncio.sleep(0.2)


def _campaigns(path: Path, bundle: Path) -> None:
    """Half of the ads are of a campaign, the others of none: answers go on when all are paused."""
    items: list[str] = pq.read_table(bundle / "catalogue.parquet", columns=["item_id"])["item_id"].to_pylist()
    log, random = SqliteUpdateLog(path), np.random.default_rng(0)
    owned = [item for item in items if random.random() < OWNED]
    for start in range(0, len(owned), PAGE):
        page = enumerate(owned[start : start + PAGE], start)
        log.append([AdUpdate(operation="update", item_id=item, campaign=f"c{row % CAMPAIGNS}") for row, item in page])
