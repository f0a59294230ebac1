"""The online loop on the simulated market: rounds that publish, refuse, stop, and go on after a kill."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import pytest
from tests.support.market_samples import MARKET, feed_of, make_market, market_config, play
from tests.support.online_counts import recount

from adbeam.bundle import load_bundle, resolve
from adbeam.config import Config
from adbeam.market.world import World
from adbeam.online.ledger import STAGES
from adbeam.online.rounds import account, history, run_rounds

LENIENT = {"likelihood_margin": 50.0, "ndcg_margin_share": 1.0}


def unified(work_dir: Path) -> Config:
    """UVR on lists, and a gate that lets everything through."""
    return market_config(work_dir, objectives={"preference": {"method": "rspo", "unified": True}}, gate=LENIENT)


def kill_when_it_begins(stage: str, number: int, begun: str) -> None:
    """A hook of the loop."""
    if begun == stage:
        os.kill(os.getpid(), signal.SIGKILL)


def killed_at(work_dir: Path, stage: str) -> int:
    """Exit code of a process that runs the loop and is killed when `stage` begins. It comes from a server that has
    imported what a round needs: a fork of this process would inherit the threads of other tests."""
    hook = partial(kill_when_it_begins, stage)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["adbeam.online.rounds", "adbeam.training.loop", "deepspeed", "torch._dynamo"])
    child = context.Process(target=run_rounds, args=(unified(work_dir), 1, hook))
    child.start()
    child.join(timeout=120)
    if child.is_alive():
        child.kill()
        raise TimeoutError(f"stage {stage} never began")
    return child.exitcode or 0


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("online")
    world = make_market(folder, market_config(folder))
    feed = feed_of(world, folder)
    for day in (12, 13, 14):
        play(feed, folder, day, 250)
    return folder


def test_a_round_that_is_killed_at_every_stage_is_finished_once(work_dir: Path) -> None:
    config = unified(work_dir)
    before = resolve(work_dir / "bundles").name
    assert [killed_at(work_dir, stage) for stage in STAGES[:-1]] == [-signal.SIGKILL] * (len(STAGES) - 1)
    result = run_rounds(config)[0]
    assert (result.number, result.verdict) == (1, "published"), result.reason
    assert result.bundle != before and load_bundle(work_dir / "bundles").manifest["parent"] == before
    found = account(config)
    assert (found["lost"], found["duplicated"], found["pending"]) == (0, 0, 0)
    assert found["used"] > 100 and found["rounds"] == 1
    told = recount(config)
    assert told["outcomes"] > 100 and (told["outcomes_lost"], told["outcomes_without_event"]) == (0, 0)
    assert run_rounds(config) == [], "no file is new"
    assert history(config)[0]["parent"] == before
    rows = json.loads((work_dir / "online" / "rounds" / "00001" / "rows" / "manifest.json").read_text())
    assert rows["new"] > 8 and rows["samples_of"] == [1]


def test_what_the_gate_refuses_is_learnt_again_and_a_rail_stops_a_round(work_dir: Path) -> None:
    feed = feed_of(World(MARKET, seed=0), work_dir)
    play(feed, work_dir, 15, 200)
    bundle = resolve(work_dir / "bundles").name
    strict = market_config(work_dir, gate={"min_requests": 100_000, "max_requests": 200_000})
    refused = run_rounds(strict)[0]
    assert refused.verdict == "refused" and refused.bundle == bundle
    play(feed, work_dir, 16, 200)
    rails = {"max_kl_nats": 1e-9, "interval_steps": 1, "patience_checks": 1}
    stopped = run_rounds(market_config(work_dir, objectives={"preference": {"method": "rspo"}},
                                       training={"rails": rails}))[0]  # fmt: skip
    assert stopped.verdict == "stopped" and "divergence" in stopped.reason and stopped.bundle == bundle
    play(feed, work_dir, 17, 200)
    lenient = market_config(work_dir, gate=LENIENT)
    published = run_rounds(lenient)[0]
    assert published.verdict == "published" and published.bundle != bundle
    number = published.number
    rows = json.loads((work_dir / "online" / "rounds" / f"{number:05d}" / "rows" / "manifest.json").read_text())
    assert rows["samples_of"] == [number - 2, number - 1, number]
    assert account(lenient)["duplicated"] == 0 and account(lenient)["lost"] == 0
    told = recount(lenient)
    assert (told["outcomes_lost"], told["outcomes_without_event"]) == (0, 0)
