"""One trial of a sweep: an ordinary training in a process of its own, then recall on validation requests.

python -m adbeam.sweep.trial CONFIG.yaml REQUESTS    (prints the judgement as JSON)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from adbeam import artifacts
from adbeam.config import Config
from adbeam.training.tracking.run_record import METRICS, read_metrics
from adbeam.workdir import WorkDir

METRIC = "recall@10"
POLL_SECONDS = 1.0


def run_trial(settings: dict[str, Any], base: Mapping[str, Any], folder: str, requests: int) -> None:
    """What Ray Tune runs: train with `settings` over `base`, reporting the loss as it falls, the recall at the end."""
    from ray import tune

    name = artifacts.fingerprint(dict(sorted(settings.items())))
    work_dir = Path(folder) / "trials" / name
    config = write_trial(work_dir, base, settings)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "adbeam.sweep.trial", str(config), str(requests)]
    with (work_dir / "trial.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
    try:
        told = 0
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            rows = _rows(work_dir)
            for row in rows[told:]:
                tune.report({"loss": row["loss"], "step": row["step"], "trial": name})
            told = len(rows)
    finally:
        process.terminate()
    assert process.stdout is not None
    answer = process.stdout.read()
    if process.wait():
        raise RuntimeError(f"the trial failed; see {work_dir / 'trial.log'}")
    tune.report({**json.loads(answer.splitlines()[-1]), "trial": name})


def write_trial(work_dir: Path, base: Mapping[str, Any], settings: Mapping[str, Any]) -> Path:
    """The trial's folder with its configuration; the log, the tokens and the rows are those of the base."""
    work_dir.mkdir(parents=True, exist_ok=True)
    for source, target in zip(_shared(WorkDir.of(base["work_dir"]).resolve()), _shared(WorkDir(work_dir)), strict=True):
        if source.exists() and not target.exists():
            target.symlink_to(source)
    path = work_dir / "config.yaml"
    path.write_text(yaml.safe_dump({**base, "work_dir": str(work_dir)}), encoding="utf-8")
    config = Config.load(path, settings)
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json()), sort_keys=False), encoding="utf-8")
    return path


def _shared(work_dir: WorkDir) -> tuple[Path, ...]:
    return work_dir.prepared, work_dir.tokens, work_dir.training_rows


def judge(config: Config, requests: int) -> float:
    """Recall@10 of the trained model at full width, over validation requests spread over the users."""
    import pyarrow.parquet as pq

    from adbeam.bundle import catalogue_with_sids
    from adbeam.evaluation.evaluate import judged_requests
    from adbeam.evaluation.metrics import recall_at
    from adbeam.export.export_bundle import trained_model
    from adbeam.inference.recommender import Recommender
    from adbeam.logs.prepared import PreparedLog

    work_dir = WorkDir.of(config.work_dir)
    prepared = PreparedLog.open(work_dir.prepared)
    model, means = trained_model(work_dir.training)
    catalogue = catalogue_with_sids(prepared.catalogue(), pq.read_table(work_dir.sids))
    asked = judged_requests(prepared, "validation", None)
    chosen = np.unique(np.linspace(0, len(asked) - 1, min(requests, len(asked))).round().astype(int))
    part = [asked[place] for place in chosen]
    ranked = Recommender(
        model, catalogue, means, include_paused=True, trends=prepared.trends(), told=prepared.told()
    ).rank(part, config.decoding.widths, 10)
    return float(
        np.mean([recall_at(items, request.ad_targets(), 10) for items, request in zip(ranked, part, strict=True)])
    )


def main() -> None:
    """The trial's own process."""
    from adbeam.training import train

    config = Config.load(sys.argv[1])
    result = train(config)
    print(json.dumps({METRIC: judge(config, int(sys.argv[2])), "loss": result.metrics["loss"], "step": result.steps}))


def _rows(work_dir: Path) -> list[dict[str, float]]:
    """Metrics of the trial's one run so far."""
    found = sorted(WorkDir(work_dir).training_runs.glob(f"*/{METRICS}"))
    return read_metrics(found[0].parent) if found else []


if __name__ == "__main__":
    main()
