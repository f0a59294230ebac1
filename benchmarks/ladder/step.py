"""What one RSPO step costs against a VSL step on the same sequences, and how fast the market is."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from adbeam.market.play import Market
from adbeam.market.world import World
from adbeam.objectives.vsl import vsl_loss
from adbeam.training.data.build_rows import build_rows
from adbeam.training.list_learner import lists_of
from adbeam.training.trainer import build_job, lists_for
from benchmarks.ladder.market import Bench
from benchmarks.ladder.rows import UVR, named, preference

REPEATS = 30


def simulation_speed(bench: Bench, requests: int = 100_000) -> dict[str, float]:
    """Millions of impressions an hour of processor time, logging policy and outcomes included."""
    world = World(bench.market, bench.seed)
    asked = world.requests(0, requests)
    began = time.process_time()
    shown = world.logging_choice(asked)
    Market(world).play(asked, shown)
    return {"simulated_million_impressions_per_hour": shown.size / (time.process_time() - began) * 3600 / 1e6}


def step_cost(bench: Bench) -> dict[str, float]:
    """{"rspo_step_cost", "uvr_step_cost"}: processor time of a step over that of a VSL step, medians of turns."""
    from adbeam.model import build_model

    row = named("vsl_rspo")
    bench.prepare()
    bench.weights(row)
    configs = {
        "vsl": bench.config(row),
        "rspo": bench.config(row, **preference("rspo")),
        "uvr": bench.config(row, **UVR),
    }
    store = build_rows(configs["rspo"], use_ray=False)
    lists = lists_for(configs["rspo"], store)
    assert lists is not None
    job, _ = build_job(configs["rspo"], store, bench.root / "run", lists)
    candidates = job.maker.candidates(lists.files.take(np.arange(configs["rspo"].training.batch_lists)))
    torch.manual_seed(0)
    model = build_model(configs["rspo"].model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)

    def step(name: str) -> Callable[[], None]:
        objectives = configs[name].objectives

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            if name == "vsl":
                loss, _ = vsl_loss(model(candidates.batch, mtp=True), candidates.batch, objectives)
            else:
                loss, _ = lists_of(model, candidates, objectives)
            loss.backward()
            optimizer.step()

        return run

    steps = {name: step(name) for name in configs}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(REPEATS + 2):
        for name, run in steps.items():
            began = time.process_time()
            run()
            if turn >= 2:
                taken[name].append(time.process_time() - began)
    seconds = {name: median(values) for name, values in taken.items()}
    return {
        "vsl_step_ms": 1000 * seconds["vsl"],
        "rspo_step_cost": seconds["rspo"] / seconds["vsl"],
        "uvr_step_cost": seconds["uvr"] / seconds["vsl"],
    }
