"""`python -m benchmarks.tokens`: quality of tokenizers on real catalogues, co-occurrence learning, speed, freshness.

completejourney comes from a prepared folder (`adbeam prepare`); Beauty and Industrial from folders the user has. Every
part writes what it found into `--keep` as soon as it is done; a later run takes it from there while no commit has
changed what makes or measures tokens. A part that was not run is left out of the figures and named in `left_out`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rig.report import commit, report
from benchmarks.tokens.index import insert_visible_ms
from benchmarks.tokens.quality import (
    SEEDS,
    Catalogue,
    beauty,
    complete_journey,
    cooccurrence,
    industrial,
    quality_rows,
    read_sequences,
    recall_gain,
    summary,
)
from benchmarks.tokens.speed import end_to_end, kernel_rates

EVERY = {"quality-completejourney", "quality-beauty", "quality-industrial", "cooccurrence", "speed", "memory", "index"}
SMALL, LARGE = 250_000, 4_000_000
MEASURED = ("platform/adbeam/tokens", "benchmarks/tokens/index.py", "benchmarks/tokens/quality.py",
            "benchmarks/tokens/recall.py", "benchmarks/tokens/speed.py", "constraints.txt")  # fmt: skip
"""What the figures depend on."""
COLUMNS = (
    "cpr", "col", "util", "item_collision", "cur_l1", "least_level_utilisation", "largest_cell_over_mean", "pas",
    "next_item_recall10",
)  # fmt: skip

Part = dict[str, Any]
"""{"figures": {name: number}, "table": [rows]}."""


def main() -> None:
    """Run the parts that were asked for and write tokens.json."""
    options = _options()
    parts = {name: run for name, run in _parts(options).items() if name.split("-")[0] in options.parts}
    found: dict[str, Part] = {}
    for name, run in parts.items():
        found[name] = _once(options.keep / f"{name}.json", name, run, fresh=options.fresh)
    figures = {key: value for part in found.values() for key, value in part["figures"].items()}
    ours, theirs = (figures.get(f"assign_{name}_vectors_per_second") for name in ("e2e", "faiss"))
    if ours and theirs:
        figures["assign_e2e_vs_faiss"] = ours / theirs
    cells = [value for key, value in figures.items() if key.startswith("largest_cell") and key.endswith("_mg_mr")]
    if cells:
        figures["largest_cell_over_mean"] = max(cells)
    table = [row for part in found.values() for row in part["table"]]
    extra = {"seeds": list(SEEDS), "left_out": sorted(EVERY - set(found)), "embedding": _embedding(options)}
    report("tokens", figures, {**extra, "table": table})


def _parts(options: argparse.Namespace) -> dict[str, Callable[[], Part]]:
    """What can be run with the data that was given, cheap parts first."""
    parts: dict[str, Callable[[], Part]] = {
        "index": _index,
        "speed": lambda: _speed(options.vectors, options.threads),
        "memory": lambda: _memory(options.threads),
    }
    if options.industrial:
        parts["quality-industrial"] = lambda: _quality(industrial(options.industrial, options.model_dir))
    if options.beauty:
        sequences = options.beauty / "sequences.txt.gz"
        parts["cooccurrence"] = lambda: _cooccurrence(beauty(options.beauty, options.model_dir), sequences)
        parts["quality-beauty"] = lambda: _quality(beauty(options.beauty, options.model_dir), sequences)
    if options.completejourney:
        parts["quality-completejourney"] = lambda: _quality(complete_journey(options.completejourney))
    return parts


def _once(path: Path, name: str, run: Callable[[], Part], *, fresh: bool) -> Part:
    """The part as a run of the same code left it in `path`, else run now."""
    if path.is_file() and not fresh:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if kept["commit"] == commit(*MEASURED):
            print(f"{name}: taken from {path}", flush=True)
            return kept
    print(f"{name}: running", flush=True)
    began = time.monotonic()
    part = run()
    seconds = time.monotonic() - began
    print(f"{name}: {seconds:.0f} s", flush=True)
    part["figures"][f"seconds_{name.replace('-', '_')}"] = seconds
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"commit": commit(*MEASURED), **part}, indent=2), encoding="utf-8")
    return part


def _quality(catalogue: Catalogue, sequences: Path | None = None) -> Part:
    print(f"{catalogue.name}: {catalogue.items.num_rows} items, vectors of {catalogue.x_NE.shape[1]}", flush=True)
    print(f"{'method':24}{'seed':>5}" + "".join(f"{name[:12]:>14}" for name in COLUMNS), flush=True)
    rows: list[dict[str, Any]] = []
    hits: dict[str, list[np.ndarray]] = {}
    bought = None if sequences is None else read_sequences(sequences)
    for row, hits_U in quality_rows(catalogue, bought):
        rows.append(row)
        if hits_U is not None:
            hits.setdefault(row["method"], []).append(hits_U)
        values = "".join(f"{row[name]:14.4f}" if row[name] is not None else f"{'-':>14}" for name in COLUMNS)
        print(f"{row['method']:24}{row['seed']:5}{values}", flush=True)
    return {"figures": {**summary(rows), **(recall_gain(hits, catalogue.name) if hits else {})}, "table": rows}


def _cooccurrence(catalogue: Catalogue, sequences: Path) -> Part:
    return {"figures": cooccurrence(catalogue, sequences), "table": []}


def _speed(vectors: int, threads: int) -> Part:
    ours, theirs = kernel_rates(vectors, threads)
    rate, _ = end_to_end(vectors, threads)
    print(f"kernel {ours:.0f}, faiss {theirs:.0f}, end to end {rate:.0f} vectors/s", flush=True)
    figures = {
        "assign_vectors_per_second": ours,
        "assign_faiss_vectors_per_second": theirs,
        "assign_vs_faiss": ours / theirs,
        "assign_e2e_vectors_per_second": rate,
    }
    return {"figures": figures, "table": []}


def _memory(workers: int) -> Part:
    small_rate, small = end_to_end(SMALL, workers)
    large_rate, large = end_to_end(LARGE, workers)
    print(f"peak memory: {small:.2f} GiB at 0.25 M, {large:.2f} GiB at 4 M", flush=True)
    figures = {
        "assign_e2e_vectors_per_second_025m": small_rate,
        "assign_e2e_vectors_per_second_4m": large_rate,
        "assign_peak_gib_025m": small,
        "assign_peak_gib_4m": large,
        "assign_peak_4m_over_025m": large / small,
    }
    return {"figures": figures, "table": []}


def _index() -> Part:
    median, late = insert_visible_ms()
    print(f"insert visible on both replicas: median {median:.0f} ms, 99th percentile {late:.0f} ms", flush=True)
    return {"figures": {"insert_visible_ms_p50": median, "insert_visible_ms_p99": late}, "table": []}


def _embedding(options: argparse.Namespace) -> dict[str, str]:
    text = f"language model {options.model_dir.parent.name}" if options.model_dir else "attributes (TF-IDF, SVD)"
    return {"completejourney": "attributes and behaviour", "beauty": text, "industrial": text}


def _options() -> argparse.Namespace:
    names = ("quality", "cooccurrence", "speed", "memory", "index")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--completejourney", type=Path, help="folder `prepared` of a completejourney run")
    parser.add_argument("--beauty", type=Path, help="folder with items.csv.gz and sequences.txt.gz of Amazon Beauty")
    parser.add_argument("--industrial", type=Path, help="folder with items.csv.gz of Amazon Industrial")
    parser.add_argument("--model-dir", type=Path, help="Hugging Face text model for Beauty and Industrial")
    parser.add_argument(
        "--parts", type=lambda text: tuple(text.split(",")), default=names, help=f"of {','.join(names)}"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path("runs/benchmark-tokens"), help="folder of the parts already run"
    )
    parser.add_argument("--fresh", action="store_true", help="run every part again")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(names):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    return options
