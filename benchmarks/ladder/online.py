"""The online loop on the simulated market under drift, against a model that never learns again.

Every day the bundle in force answers that day's requests, the feed writes both logs, and a round runs. The frozen model
answers the same requests of the same day, for comparison only. Both begin as the model that the loop's own objective
(UVR) made of the log, so that what they differ in is what was learnt since. The reward model stays that of the log.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.online_counts import recount

from adbeam import artifacts
from adbeam.bundle import load_bundle
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences
from adbeam.market.config import MarketConfig
from adbeam.market.feed import Feed, audience_of
from adbeam.market.play import Market
from adbeam.online.rounds import account, history, run_rounds
from adbeam.workdir import WorkDir
from benchmarks.ladder.market import MARKET, MORE_STEPS, STEPS, Bench
from benchmarks.ladder.rows import BY_LEVEL, named


def play_online(
    root: Path,
    rounds: int,
    requests: int,
    seed: int = 0,
    steps: int = STEPS,
    more_steps: int = MORE_STEPS,
    market: MarketConfig = MARKET,
) -> dict[str, Any]:
    """Rounds done, events lost and samples duplicated, mean lift over the frozen model, and the table of all rounds."""
    bench = Bench(root, seed, steps, more_steps, requests, market)
    row = named("uvr_dbs_lazyar")
    done = root / f"done-{rounds}-{requests}-{seed}-{steps}-{more_steps}.json"
    if done.is_file():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    world = bench.prepare()
    config = bench.config(row, **{"online.workers": 0, "online.lists_per_round": 256})
    bench.weights(row)  # before the bundles are cleared: lists are made by one of its own
    work_dir = WorkDir(config.work_dir)
    bundles = work_dir.bundles
    for part in (bundles, work_dir.online, work_dir.serving):
        shutil.rmtree(part, ignore_errors=True)  # days that were cut short begin again from the first model
    bench.write_bundle(row)
    frozen = Recommender.of(load_bundle(bundles), order_by=row.order_by, include_paused=True)
    shards = PreparedLog.open(work_dir.prepared, verify=False).sequences()
    feed = Feed(Market(world), audience_of([s for shard in shards for s in read_sequences(shard)]), config.work_dir)
    table: list[dict[str, Any]] = []
    for number in range(rounds):
        day = bench.market.days + number
        bundle = load_bundle(bundles)
        asked = world.requests(day, requests)
        live = Recommender.of(bundle, order_by=row.order_by, include_paused=True)
        still = float(
            Market(world).expected_revenue(asked, feed.answer(frozen, asked, BY_LEVEL, bench.market.slots)).mean()
        )
        earned = feed.play_day(live, asked, BY_LEVEL, bench.market.slots, bundle.version)
        played = run_rounds(config, 1)
        verdict = played[0].verdict if played else "nothing new"
        table.append({"day": day, "revenue": earned, "frozen": still, "verdict": verdict})
        print(json.dumps(table[-1]), flush=True)
        artifacts.write_json(root / "rounds.json", table)
    found = account(config) | recount(config)
    lift = np.array([line["revenue"] / line["frozen"] - 1 for line in table])
    below = [line for line in history(config) if line["verdict"] == "published" and line.get("published") is False]
    result = {
        "online_rounds": len(table),
        "online_published": sum(line["verdict"] == "published" for line in table),
        "online_published_below_gate": len(below),
        "online_lost": found["lost"] + found["outcomes_lost"],
        "online_duplicated": found["duplicated"] + found["outcomes_without_event"],
        "online_events": found["stored"],
        "online_outcomes": found["outcomes"],
        "online_lift_mean": float(lift.mean()),
        "online_lift_last_quarter": float(lift[-max(1, len(lift) // 4) :].mean()),
        "rounds_table": table,
    }
    artifacts.write_json(done, result)
    return result
