"""The quickstart as a benchmark: quality, burst and decode speed on the Complete Journey log.

    python -m benchmarks.quickstart [--seeds 0 1 2] [--minutes-per-run 4]

Dataset: Complete Journey weeks 1-44 (training to 40, validation 41-42, test 43-44). For each seed LazyAR and the plain
decoder (lazy_layers 0) are trained alike and judged on the test weeks; the first seed's LazyAR run is the quickstart
itself, burst included. The ratio's interval is a paired bootstrap over the test requests, seeds averaged.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from adbeam.bundle import load_bundle
from adbeam.config import Config
from adbeam.decoding import Decoder
from adbeam.evaluation.evaluate import evaluate, judged_requests
from adbeam.evaluation.metrics import bootstrap_ratio
from adbeam.evaluation.ranker import Ranker
from adbeam.logs.prepared import PreparedLog
from benchmarks.report import report

CONFIG = Path("jobs/quickstart.yaml")
ROOT = Path("runs/benchmark-quickstart")
DECODE_BATCH, DECODE_REPEATS = 8, 15


def main() -> None:
    """Write quickstart.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args()
    figures, recalls = _quickstart(asked.port, asked.seeds[0]), {}
    for kind, lazy_layers in (("lazyar", None), ("ar", 0)):
        recalls[kind] = np.stack([_run(kind, lazy_layers, seed) for seed in asked.seeds])
    ratio, lower, upper = bootstrap_ratio(recalls["lazyar"], recalls["ar"])
    figures |= {
        "recall10_ar": float(recalls["ar"].mean()),
        "recall10_lazyar_mean_of_seeds": float(recalls["lazyar"].mean()),
        "recall_ratio": ratio,
        "recall_ratio_lower": lower,
        "recall_ratio_upper": upper,
        **_decode_speed(asked.seeds[0]),
    }
    report("quickstart", figures, {"seeds": asked.seeds, "split": "test weeks 43-44"})


def _quickstart(port: int, seed: int) -> dict[str, float]:
    """The quickstart's own run: minutes, memory, quality and burst."""
    from adbeam.quickstart import run

    config = Config.load(CONFIG, {"work_dir": str(_folder("lazyar", seed)), "seed": seed})
    began = time.monotonic()
    with _PeakMemory() as memory:
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
        "burst_in_deadline": burst["in_deadline"],
        "burst_in_deadline_model": burst["model_in_deadline"],
        "burst_width_before": burst["width_before"],
        "burst_width_during": burst["width_during"],
        "burst_width_after": burst["width_after"],
    }


def _run(kind: str, lazy_layers: int | None, seed: int) -> np.ndarray:
    """Recall@10 of each test request, of one model and seed; finished steps are not repeated."""
    from adbeam.logs import prepare
    from adbeam.tokens import tokenize
    from adbeam.training import export, train

    changes: dict[str, Any] = {"work_dir": str(_folder(kind, seed)), "seed": seed}
    if lazy_layers is not None:
        changes["model.lazy_layers"] = lazy_layers
    config = Config.load(CONFIG, changes)
    for step in (prepare, tokenize, train, export):
        step(config)
    evaluate(config, "test")
    rows = pq.read_table(_folder(kind, seed) / "evaluation" / "test" / "requests.parquet").to_pylist()
    return np.array([row["recall@10"] for row in rows if row["question"] == "all" and row["method"] == "model"])


def _decode_speed(seed: int) -> dict[str, float]:
    """Requests a second of both decoders on this engine, one thread, medians of interleaved repeats."""
    import torch

    torch.set_num_threads(1)
    decoders = {kind: _ready(kind, seed) for kind in ("lazyar", "ar")}
    seconds: dict[str, list[float]] = {kind: [] for kind in decoders}
    for _ in range(DECODE_REPEATS):
        for kind, (decoder, context, schedules) in decoders.items():
            began = time.perf_counter()
            decoder.decode(context, schedules)
            seconds[kind].append(time.perf_counter() - began)
    return {f"decode_rps_{kind}": DECODE_BATCH / statistics.median(times) for kind, times in seconds.items()}


def _ready(kind: str, seed: int) -> tuple[Decoder, Any, list[tuple[int, ...]]]:
    folder = _folder(kind, seed)
    prepared = PreparedLog.open(folder / "prepared")
    ranker = Ranker.of(load_bundle(folder / "bundles"), trends=prepared.trends())
    widths = Config.load(CONFIG).decoding.widths
    context = ranker.contexts(judged_requests(prepared, "validation", DECODE_BATCH))
    return ranker.decoder, context, [widths] * DECODE_BATCH


def _folder(kind: str, seed: int) -> Path:
    return ROOT / f"{kind}-{seed}"


class _PeakMemory:
    """The most memory that this process and its descendants held at once (proportional set size), sampled."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._done = threading.Event()

    def __enter__(self) -> _PeakMemory:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(2.0):
            family = [psutil.Process(), *psutil.Process().children(recursive=True)]
            self.peak_bytes = max(self.peak_bytes, sum(map(_resident, family)))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
