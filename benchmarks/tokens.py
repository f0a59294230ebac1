"""`python -m benchmarks.tokens`: quality of tokenizers on real catalogues, co-occurrence learning, speed, freshness.

completejourney comes from a prepared folder (`adbeam prepare`); Beauty and Industrial from folders the user has.
A part whose data is not given is left out of the figures and named in `left_out`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.report import report
from benchmarks.tokens_index import insert_visible_ms
from benchmarks.tokens_quality import (
    SEEDS,
    Catalogue,
    beauty,
    complete_journey,
    cooccurrence,
    industrial,
    quality_rows,
    summary,
)
from benchmarks.tokens_speed import end_to_end, kernel_rates


def main() -> None:
    """Run the parts that were asked for and write tokens.json."""
    options = _options()
    figures: dict[str, float | int | None] = {}
    rows: list[dict[str, Any]] = []
    left_out = [name for name in ("completejourney", "beauty", "industrial") if getattr(options, name) is None]
    for catalogue in _catalogues(options):
        rows += list(quality_rows(catalogue))
        _print_table([row for row in rows if row["data"] == catalogue.name])
        if catalogue.name == "beauty":
            figures |= cooccurrence(catalogue, options.beauty / "sequences.txt.gz")
    figures |= summary(rows)
    if options.speed:
        figures |= _speed(options)
    extra = {"seeds": list(SEEDS), "left_out": left_out, "embedding": _embedding(options), "table": rows}
    report("tokens", figures, extra)


def _catalogues(options: argparse.Namespace) -> list[Catalogue]:
    found = []
    if options.completejourney:
        found.append(complete_journey(options.completejourney))
    if options.beauty:
        found.append(beauty(options.beauty, options.model_dir))
    if options.industrial:
        found.append(industrial(options.industrial, options.model_dir))
    for catalogue in found:
        print(f"{catalogue.name}: {catalogue.items.num_rows} items, vectors of {catalogue.x_NE.shape[1]}", flush=True)
    return found


def _speed(options: argparse.Namespace) -> dict[str, float]:
    ours, theirs = kernel_rates(options.vectors, options.threads)
    print(f"kernel: {ours:.0f} vectors/s, faiss {theirs:.0f}", flush=True)
    rate, _ = end_to_end(options.vectors, options.threads)
    print(f"end to end: {rate:.0f} vectors/s", flush=True)
    small_rate, small = end_to_end(250_000, options.threads)
    large_rate, large = end_to_end(4_000_000, options.threads)
    print(f"peak memory: {small:.2f} GiB at 0.25 M, {large:.2f} GiB at 4 M", flush=True)
    median, late = insert_visible_ms()
    return {
        "assign_vectors_per_second": ours,
        "assign_faiss_vectors_per_second": theirs,
        "assign_vs_faiss": ours / theirs,
        "assign_e2e_vectors_per_second": rate,
        "assign_e2e_vs_faiss": rate / theirs,
        "assign_e2e_vectors_per_second_025m": small_rate,
        "assign_e2e_vectors_per_second_4m": large_rate,
        "assign_peak_gib_025m": small,
        "assign_peak_gib_4m": large,
        "insert_visible_ms_p50": median,
        "insert_visible_ms_p99": late,
    }


def _embedding(options: argparse.Namespace) -> dict[str, str]:
    text = f"language model {options.model_dir.parent.name}" if options.model_dir else "attributes (TF-IDF, SVD)"
    return {"completejourney": "attributes and behaviour", "beauty": text, "industrial": text}


def _print_table(rows: list[dict[str, Any]]) -> None:
    keys = (
        "cpr",
        "col",
        "util",
        "item_collision",
        "cur_l1",
        "least_level_utilisation",
        "largest_cell_over_mean",
        "pas",
    )
    print(f"{'method':24}{'seed':>5}" + "".join(f"{key[:12]:>14}" for key in keys))
    for row in rows:
        values = "".join(f"{row[key]:14.4f}" if row[key] is not None else f"{'-':>14}" for key in keys)
        print(f"{row['method']:24}{row['seed']:5}{values}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--completejourney", type=Path, help="folder `prepared` of a completejourney run")
    parser.add_argument("--beauty", type=Path, help="folder with items.csv.gz and sequences.txt.gz of Amazon Beauty")
    parser.add_argument("--industrial", type=Path, help="folder with items.csv.gz of Amazon Industrial")
    parser.add_argument("--model-dir", type=Path, help="Hugging Face text model for Beauty and Industrial")
    parser.add_argument("--speed", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
