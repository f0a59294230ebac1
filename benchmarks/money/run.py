"""What answers promise against the truth of the simulated market, and what ten rows in micros do to the bids.

    python -m benchmarks.money [--answers N] [--served N] [--days N] [--folder DIR]

A market is simulated, its log prepared, trained on and exported as a user would. The bundle answers `--answers`
requests of the day after: its first prices, fitted on impressions of the logging policy, which knew the truth. Then
it serves `--served` requests a day for `--days` days, by model and by fallback, `adbeam reprice` corrects the prices
by what came, and the figures are of `--answers` requests of the next day: |promised / true - 1| of the money of a
thousand impressions, overall, of the worst decile of prices, of the worst scene, and of the fallback. Everything is
simulated.

`planted_rows_bid_change`: the largest change of a price when ten conversions of the log are a million times dearer,
prepared and exported again from the same weights. `money_cases_*`: tests of money, run and counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.market.simulate import MARKET, open_market
from adbeam.market.world import World
from adbeam.workdir import WorkDir
from benchmarks.money.answers import Answers, Bidder, calibration, post
from benchmarks.rig.cases import count_cases
from benchmarks.rig.report import report

COUNT = 4
SETTINGS = ("users=1500", "ads=800", "days=40", "requests_per_user_day=3")
STEPS = 1000
PLANTED, MICROS = 10, 1e6
SAME_ANSWERS = 500
CASES = ("tests/unit/export", "tests/unit/logs/test_logs_money.py", "tests/unit/logs/test_logs_targets.py",
         "tests/unit/objectives", "tests/unit/serving/engine/test_answer_prices.py",
         "tests/unit/serving/engine/test_engine_without_prices.py", "tests/unit/serving/engine/test_currency.py",
         "tests/unit/serving/http/test_openrtb.py")  # fmt: skip


def main() -> None:
    """Write money.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--served", type=int, default=15_000, help="requests a day, each of model and fallback")
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--set", action="append", help="of the market, in place of the benchmark's own")
    parser.add_argument("--folder", type=Path, default=Path("money"), help="a trained market there is used again")
    given = parser.parse_args()
    work_dir = given.folder.resolve() / "market"
    make(work_dir, tuple(given.set or SETTINGS), given.steps)
    figures, tables = measure(work_dir, given.answers, given.served, given.days)
    figures["planted_rows_bid_change"] = planted_change(work_dir)
    figures |= cases()
    report("money", figures, tables)


def adbeam(*words: str) -> None:
    """One command, as a user gives it; raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "adbeam.cli", *words], check=True, stdout=sys.stderr, env=os.environ)


def make(work_dir: Path, settings: tuple[str, ...], steps: int) -> None:
    """A market with a trained model and a fresh bundle with first prices."""
    if not (work_dir / MARKET).is_file():
        sets = [word for pair in settings for word in ("--set", pair)]
        adbeam("market", "simulate", "--work-dir", str(work_dir), "--seed", "0", "--size", "tiny", *sets)
        adbeam("train", "-c", str(work_dir / "jobs.yaml"), "--set", f"training.max_steps={steps}")
    layout = WorkDir(work_dir)
    for folder in (layout.bundles, layout.requests, layout.events):
        shutil.rmtree(folder, ignore_errors=True)
    adbeam("export", "-c", str(work_dir / "jobs.yaml"))


def measure(work_dir: Path, answers: int, served: int, days: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(figures, tables of promised over true)."""
    world = open_market(work_dir)
    first, day = Bidder(world, work_dir), world.config.days
    tables = {"first": _calibrations(_answers(first, world, day, answers), world)}
    for number in range(days):
        for part in _answers(first, world, day + number, served):
            post(part, world, work_dir, f"{number}{part.source}")
    adbeam("reprice", "-c", str(work_dir / "jobs.yaml"))
    tables["repriced"] = _calibrations(_answers(Bidder(world, work_dir), world, day + days, answers), world)
    model, fallback = tables["repriced"]["model"], tables["repriced"]["fallback"]
    figures = {
        "answers": answers,
        "ecpm_calibration_error": abs(model["overall"] - 1),
        "ecpm_calibration_worst_decile": max(abs(ratio - 1) for ratio in model["deciles"]),
        "ecpm_calibration_worst_scene": max(abs(ratio - 1) for ratio in model["scenes"].values()),
        "fallback_calibration_error": abs(fallback["overall"] - 1),
        "first_calibration_error": abs(tables["first"]["model"]["overall"] - 1),
        "first_fallback_calibration_error": abs(tables["first"]["fallback"]["overall"] - 1),
    }
    return figures, {"simulated": True, "promised_over_true": tables}


def _answers(bidder: Bidder, world: World, day: int, count: int) -> list[Answers]:
    requests = world.requests(day, count)
    return [bidder.model(requests, COUNT), bidder.fallback(requests, COUNT)]


def _calibrations(answers: list[Answers], world: World) -> dict[str, Any]:
    return {part.source: calibration(part, world) for part in answers}


def planted_change(work_dir: Path) -> float:
    """Largest |new price / price - 1| of the same answers, when PLANTED conversions are MICROS times dearer."""
    planted = work_dir.with_name("planted")
    shutil.rmtree(planted, ignore_errors=True)
    shutil.copytree(work_dir, planted, ignore=shutil.ignore_patterns("bundles", "prepared", "events", "requests"))
    log = WorkDir(planted).log
    events = pq.read_table(log / "events.parquet")
    orders = np.flatnonzero(np.array(events["action"].to_pylist()) == "conversion")
    price = np.array(events["price"].to_pylist(), dtype=float)
    price[orders[np.linspace(0, len(orders) * 0.8, PLANTED).astype(int)]] *= MICROS
    place = events.column_names.index("price")
    pq.write_table(
        events.set_column(place, events.schema.field(place), pa.array(price, mask=np.isnan(price))),
        log / "events.parquet",
    )
    prices = {}
    for name, folder in (("clean", work_dir), ("planted", planted)):
        where = ["-c", str(work_dir / "jobs.yaml"), "--set", f"work_dir={folder}"]
        if folder is planted:
            _prepare_again(work_dir, planted)
        adbeam("export", *where, "--set", "export.max_dearest_share=1", "--set", "export.priced_requests=4000")
        world = open_market(work_dir)
        prices[name] = _answers(Bidder(world, folder), world, world.config.days, SAME_ANSWERS)
    changes = [
        np.nanmax(np.abs(new.priced_Rn / old.priced_Rn - 1))
        for old, new in zip(prices["clean"], prices["planted"], strict=True)
    ]
    return float(max(changes))


def _prepare_again(work_dir: Path, planted: Path) -> None:
    """The planted log through `prepare`, with the settings that made the market's."""
    from adbeam.logs.config import LogsConfig
    from adbeam.market.log import log_settings
    from adbeam.market.workdir import prepare_log

    world = open_market(work_dir)
    settings = log_settings(world, WorkDir(planted).log, world.config.days)
    prepare_log(planted, LogsConfig.parse({**settings, "shards": 4}))


def cases() -> dict[str, int]:
    """Tests of money: how many pass, how many there are."""
    right, of_all = count_cases(CASES)
    return {"money_cases_right": right, "money_cases_all": of_all}
