"""Off-policy estimates on the Open Bandit data: do their intervals cover the other policy's known value?

    python -m benchmarks.off_policy DATA

DATA holds `bts_<campaign>.csv.gz` and `random_<campaign>.csv.gz` of the Open Bandit Dataset.

Thompson sampling and a uniform policy ran side by side on the same traffic. From the first one's log (true
propensities) the uniform policy's click rate is estimated; its own log says what that is. Figures are shares of clicks;
`covered_share` counts the campaigns and estimators whose 95 % interval holds the uniform policy's observed rate.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from adbeam.evaluation.off_policy import doubly_robust, ips, snips, weights
from benchmarks.rig.report import report

CAMPAIGNS = {"all": 80, "men": 34, "women": 46}
PRIOR_SHOWN = 200.0
"""Impressions that an item's click rate is drawn towards the mean by."""


def main() -> None:
    """Write off_policy.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the Open Bandit logs")
    folder = parser.parse_args().data
    figures: dict[str, float] = {}
    covered = []
    for campaign, items in CAMPAIGNS.items():
        logged = pd.read_csv(folder / f"bts_{campaign}.csv.gz")
        truth = float(pd.read_csv(folder / f"random_{campaign}.csv.gz").click.mean())
        reward, weight = logged.click.to_numpy(float), weights(np.full(len(logged), 1 / items), logged.propensity_score)
        by_item = logged.groupby("item_id").click.agg(["sum", "count"])
        rate = (by_item["sum"] + PRIOR_SHOWN * reward.mean()) / (by_item["count"] + PRIOR_SHOWN)
        expected = np.full(len(logged), (rate.sum() + (items - len(rate)) * reward.mean()) / items)
        found = {
            "ips": ips(reward, weight),
            "snips": snips(reward, weight),
            "dr": doubly_robust(reward, weight, rate.loc[logged.item_id].to_numpy(), expected),
        }
        figures[f"{campaign}_uniform"], figures[f"{campaign}_logging"] = truth, float(reward.mean())
        for name, estimate in found.items():
            figures |= {f"{campaign}_{name}": estimate.value, f"{campaign}_{name}_lo": estimate.low,
                        f"{campaign}_{name}_hi": estimate.high}  # fmt: skip
            covered.append(estimate.covers(truth))
    report("off_policy", {**figures, "covered_share": float(np.mean(covered))})
