"""Complete Journey with what it knows of households, stores and weeks, and without: recall and money recall.

Whoever wins is printed. Both sides are jobs/journey_told.yaml, one of them without its section `features`; for each
seed both are trained for the same number of steps and judged on the test weeks. A run that is finished stays in the
folder and is not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.config import Config
from adbeam.evaluation.evaluate import evaluate
from adbeam.evaluation.metrics import bootstrap_ratio
from adbeam.export.export_bundle import export
from adbeam.logs.pipeline import run as prepare
from adbeam.tokens.pipeline import tokenize
from adbeam.training.trainer import train
from adbeam.workdir import WorkDir
from benchmarks.ladder.market import folder_of_commit

CONFIG = Path("jobs/journey_told.yaml")
SIDES = ("with", "without")
JUDGED = ("recall@10", "money_recall@10")


@dataclass(frozen=True)
class Journey:
    """What is trained, and where it stays."""

    root: Path
    steps: int
    overrides: tuple[tuple[str, Any], ...] = ()
    """Settings beside those of the YAML, such as where the log is."""

    def config(self, side: str, seed: int) -> Config:
        """Of one side; the sides of all seeds share a log and its tokens each."""
        settings = {"work_dir": str(folder_of_commit(self.root) / "journey" / side), "seed": seed,
                    "training.max_steps": self.steps, "training.time_budget_seconds": None,
                    "training.workers": 0, **dict(self.overrides)}  # fmt: skip
        config = Config.load(CONFIG, settings)
        return config if side == "with" else config.model_copy(update={"features": {}})

    def judged(self, side: str, seed: int) -> dict[str, Any]:
        """{"table": means of the test weeks by question and method, "recall@10": of each request}; found where it is
        finished."""
        config = self.config(side, seed)
        key = artifacts.fingerprint(config.model_dump(mode="json", exclude={"work_dir"}))[:12]
        done = config.work_dir.parent / f"{side}-{seed}-{key}.json"
        if not done.is_file():
            prepare(config, in_process=True)
            tokenize(config)
            train(config)
            export(config)
            table = evaluate(config, "test")
            rows = pq.read_table(WorkDir(config.work_dir).evaluation / "test" / "requests.parquet").to_pylist()
            chosen = [row[JUDGED[0]] for row in rows if row["question"] == "all" and row["method"] == "model"]
            artifacts.write_json(done, {"table": table, JUDGED[0]: chosen})
        return dict(json.loads(done.read_text(encoding="utf-8")))


def journey_figures(journey: Journey, seeds: Sequence[int]) -> dict[str, Any]:
    """`journey_recall10_SIDE` and `journey_money_recall10_SIDE`, means over seeds, and the ratio of the recalls with
    its 95 % interval (a paired bootstrap over the test requests, seeds averaged)."""
    found = {side: [journey.judged(side, seed) for seed in seeds] for side in SIDES}
    names = {"recall@10": "journey_recall10", "money_recall@10": "journey_money_recall10"}
    figures: dict[str, Any] = {
        f"{names[judged]}_{side}": float(np.mean([one["table"]["all/model"][judged] for one in runs]))
        for judged in JUDGED
        for side, runs in found.items()
    }
    recalls = [np.array([one[JUDGED[0]] for one in found[side]]) for side in SIDES]
    bounds = ("journey_recall_ratio", "journey_recall_ratio_lo", "journey_recall_ratio_hi")
    figures |= dict(zip(bounds, bootstrap_ratio(*recalls), strict=True))
    by_seed = {
        side: [{judged: one["table"]["all/model"][judged] for judged in JUDGED} for one in runs]
        for side, runs in found.items()
    }
    tables = [{"seed": seed, **{side: by_seed[side][n] for side in SIDES}} for n, seed in enumerate(seeds)]
    return {**figures, "journey_by_seed": tables}
