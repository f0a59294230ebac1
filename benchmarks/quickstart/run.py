"""The quickstart as a benchmark: quality, burst and decode speed on the Complete Journey log.

    python -m benchmarks.quickstart [--seeds 0 1 2] [--steps 1000]

Dataset: Complete Journey weeks 1-44 (training to 40, validation 41-42, test 43-44). First the quickstart itself, burst
included. Then, on one log and its tokens, for each seed LazyAR and the plain decoder (lazy_layers 0) are trained
alike, for the same number of steps, and judged on the test weeks. The interval of the ratio of their Recall@10 is a
paired bootstrap over the test requests, seeds averaged. Finished runs are kept and not repeated.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from adbeam.bundle import load_bundle
from adbeam.config import Config
from adbeam.decoding import Decoder
from adbeam.evaluation.evaluate import evaluate, judged_requests
from adbeam.evaluation.metrics import bootstrap_ratio
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.training.launch import ray_for
from adbeam.workdir import WorkDir
from benchmarks.rig.memory import PeakMemory
from benchmarks.rig.report import commit, report

CONFIG = Path("jobs/quickstart.yaml")
ROOT = Path("runs/benchmark-quickstart")
SHARED = ROOT / "shared"
COMMIT = "COMMIT"
"""In the folder of a run that is kept: the code that trained it."""
DECODE_BATCH, DECODE_REPEATS = 8, 15
KINDS: dict[str, dict[str, Any]] = {"lazyar": {}, "ar": {"model.lazy_layers": 0}}


def main() -> None:
    """Write quickstart.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--only-seeds", action="store_true", help="train the seeds, to be found by a later run")
    asked = parser.parse_args()
    figures = {} if asked.only_seeds else _quickstart(asked.port)
    with ray_for(Config.load(CONFIG).training):
        runs = {(kind, seed): _run(kind, seed, asked.steps) for seed in asked.seeds for kind in KINDS}
    if asked.only_seeds:
        return
    recalls = {kind: np.stack([_recalls(runs[kind, seed], "all") for seed in asked.seeds]) for kind in KINDS}
    new = {kind: float(np.mean([_recalls(runs[kind, seed], "new").mean() for seed in asked.seeds])) for kind in KINDS}
    ratio, lower, upper = bootstrap_ratio(recalls["lazyar"], recalls["ar"])
    figures |= {
        "recall10_ar": float(recalls["ar"].mean()),
        "recall10_lazyar_same_steps": float(recalls["lazyar"].mean()),
        "recall10_new_ar": new["ar"],
        "recall10_new_lazyar_same_steps": new["lazyar"],
        "recall_ratio": ratio,
        "recall_ratio_lower": lower,
        "recall_ratio_upper": upper,
        "same_steps": float(asked.steps),
        **_decode_speed(*(runs[kind, asked.seeds[0]] for kind in KINDS)),
    }
    trained = {f"{kind}-{seed}": (run / COMMIT).read_text().strip() for (kind, seed), run in runs.items()}
    report("quickstart", figures, {"seeds": asked.seeds, "split": "test weeks 43-44", "trained_at_commit": trained})


def _quickstart(port: int) -> dict[str, float]:
    """The quickstart's own run: minutes (without installation), memory, quality and burst."""
    from adbeam.quickstart import run

    shutil.rmtree(ROOT / "quickstart", ignore_errors=True)  # nothing of it may be current: every step is timed
    config = Config.load(CONFIG, {"work_dir": str(ROOT / "quickstart")})
    began = time.monotonic()
    with PeakMemory(2.0) as memory:
        result = run(config, serving_yaml=Path("serving/ads.yaml"), port=port)
    table, burst = result.table, result.burst
    return {
        "quickstart_minutes": (time.monotonic() - began) / 60,
        "quickstart_peak_gib": memory.peak_bytes / 2**30,
        "recall10_lazyar": table["all/model"]["recall@10"],
        "recall10_popularity": table["all/popularity"]["recall@10"],
        "recall10_own_frequency": table["all/own_frequency"]["recall@10"],
        "recall10_new_lazyar": table["new/model"]["recall@10"],
        "recall10_new_popularity": table["new/popularity"]["recall@10"],
        "burst_capacity_kept": burst["capacity_kept"],
        "burst_in_deadline": burst["in_deadline"],
        "burst_in_deadline_model": burst["model_in_deadline"],
        "burst_width_before": burst["width_before"],
        "burst_width_during": burst["width_during"],
        "burst_width_after": burst["width_after"],
    }


def _run(kind: str, seed: int, steps: int) -> Path:
    """The folder of one model and seed, trained, exported and judged; found there if done. All share log and tokens."""
    from adbeam.export import export
    from adbeam.logs import prepare
    from adbeam.tokens import tokenize
    from adbeam.training import train

    kept = ROOT / f"{kind}-{seed}-{steps}"
    if kept.is_dir():
        return kept
    shared = Config.load(CONFIG, {"work_dir": str(SHARED)})
    prepare(shared)
    tokenize(shared)
    config = Config.load(CONFIG, {"work_dir": str(SHARED), "seed": seed, **KINDS[kind],
                                  "training.max_steps": steps, "training.time_budget_seconds": None})  # fmt: skip
    train(config)
    bundle = export(config)
    evaluate(config, "test")
    staging = ROOT / f".{kept.name}"
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(bundle, staging / "bundle")
    shutil.copy(WorkDir(SHARED).evaluation / "test" / "requests.parquet", staging)
    (staging / COMMIT).write_text(commit(), encoding="utf-8")
    staging.rename(kept)
    return kept


def _recalls(run: Path, question: str) -> np.ndarray:
    """Recall@10 of the model for each test request."""
    rows = pq.read_table(run / "requests.parquet").to_pylist()
    return np.array([row["recall@10"] for row in rows if row["question"] == question and row["method"] == "model"])


def _decode_speed(*runs: Path) -> dict[str, float]:
    """Requests a second of both decoders on this engine, one thread, medians of interleaved repeats."""
    import torch

    torch.set_num_threads(1)
    decoders = dict(zip(KINDS, map(_ready, runs), strict=True))
    seconds: dict[str, list[float]] = {kind: [] for kind in decoders}
    for _ in range(DECODE_REPEATS):
        for kind, (decoder, context, schedules) in decoders.items():
            began = time.perf_counter()
            decoder.decode(context, schedules)
            seconds[kind].append(time.perf_counter() - began)
    return {f"decode_rps_{kind}": DECODE_BATCH / statistics.median(times) for kind, times in seconds.items()}


def _ready(run: Path) -> tuple[Decoder, Any, list[tuple[int, ...]]]:
    prepared = PreparedLog.open(WorkDir(SHARED).prepared)
    recommender = Recommender.of(load_bundle(run / "bundle"), include_paused=True, trends=prepared.trends())
    widths = Config.load(CONFIG).decoding.widths
    context = recommender.contexts(judged_requests(prepared, "validation", DECODE_BATCH))
    return recommender.decoder, context, [widths] * DECODE_BATCH
