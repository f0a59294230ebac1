"""Weights and orders of the methods that learn from lists, on markets that the ladder does not judge.

    python -m benchmarks.ladder_tune [--seeds 100 101] [--steps 1000] [--more-steps 400]

Every method has the same grid around its own scale, for the scales of the losses differ, and both orders. Figures are
lifts of **simulated** revenue over the cascade, means over the seeds. Finished models are kept as the ladder's are.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.ladder.market import MORE_STEPS, STEPS, Bench, folder_of_commit
from benchmarks.ladder.rows import ORDERS, Row, named
from benchmarks.ladder.run import judged
from benchmarks.rig.report import report

GRID = (1.0, 3.0, 10.0, 30.0)
SCALES = {"vsl_dpo": 1.0, "vsl_grpo": 10.0, "vsl_sdpo": 0.3, "vsl_ndcg_loss2": 10.0, "vsl_rspo": 100.0, "uvr": 3.0}
"""The weight at which a method begins its grid: about where its pull on the log-probabilities of a list is VSL's on
those of a request."""


def main() -> None:
    """Write ladder_tune.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--more-steps", type=int, default=MORE_STEPS)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--root", type=Path, default=Path("runs/benchmark-ladder"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [named("vsl"), *(weighed(name, factor) for name in SCALES for factor in GRID), named("uvr")]
    root = folder_of_commit(asked.root)
    results = [
        judged(Bench(root / f"seed-{seed}", seed, asked.steps, asked.more_steps, asked.requests), rows)
        for seed in asked.seeds
    ]
    figures = {
        f"revenue_{row.name}_{order}": float(
            np.mean([found[row.name]["by_order"][order] / found["cascade"]["revenue"] - 1 for found in results])
        )
        for row in rows
        for order in ORDERS
    }
    report("ladder_tune", figures, {"simulated": True, "seeds": asked.seeds, "revenue_per_request": results})


def weighed(name: str, factor: float) -> Row:
    """A row of the ladder with `factor` times its method's scale for a weight."""
    row = named(name)
    settings = dict(row.settings)
    weight = SCALES[name] * factor
    settings["objectives.preference"] = {**settings["objectives.preference"], "weight": weight}
    return replace(row, name=f"{name}_{weight:g}", settings=tuple(settings.items()))
