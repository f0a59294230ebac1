"""Speed, memory and exactness of the decoding engine.

`python -m benchmarks.decode [--only ladder,hf,...] [--repeats N]`. Ratios are taken within one run, as medians of
interleaved repeats, on random weights and a random catalogue. Needs the extra `bench` for the comparison with
Hugging Face generate.

Shapes: B requests, N ads, T levels.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from adbeam.beams.cost import fit
from adbeam.beams.ladder import Widths
from adbeam.config import Config
from adbeam.decoding import Decoder, Trie
from adbeam.decoding.engines.lazyar import LazyAREngine
from adbeam.decoding.masks import constraint
from adbeam.serving.engine.calibrate import timed
from benchmarks.decode.baselines import HuggingFace, ReplicatedEngine, bare_products, one_stage_top_k
from benchmarks.decode.quality import exactness, precision
from benchmarks.decode.scale import constraint_share, filters, paper_size, trie_25m
from benchmarks.decode.setup import (
    BY_LEVEL,
    FULL,
    Clock,
    decoding,
    full_context,
    interleaved,
    model_of,
    random_sids,
    small,
    suffix,
    thread_counts,
)
from benchmarks.rig.report import report

Figures = dict[str, float]
Section = Callable[[int], tuple[Figures, dict[str, Any]]]

PAPER_GAIN = {"beam_shared_kv": 212.5, "topk_pre_cut": 184.8, "lazyar": 81.0, "widths_by_level": 45.0, "int8": 50.3}
"""GR4AD's change of requests/s, per cent; LazyAR from 2.17 / 1.20 of its Table 1, low precision is FP8 there."""


def catalogue(ads: int = 1_000_000) -> Trie:
    """Uniform SIDs over 3 x 1024 codes."""
    return Trie.build(random_sids(ads, small().codebooks), small().codebooks)


@contextmanager
def top_k_in_one_stage(on: bool) -> Any:
    """Search without the pre-cut."""
    with patch.object(constraint, "top_k", one_stage_top_k) if on else nullcontext():
        yield


def ladder(repeats: int) -> tuple[Figures, dict[str, Any]]:
    """Each row adds one technique to a plain decoder with replicated keys and values; one thread and two."""
    trie = catalogue()
    plain, lazy = model_of(small(0)), model_of(small(6))
    replicated, ar = ReplicatedEngine(plain), LazyAREngine(plain)
    lazyar, int8 = LazyAREngine(lazy), LazyAREngine(lazy, "int8")
    rows = {
        "plain": (replicated, FULL, True),
        "beam_shared_kv": (ar, FULL, True),
        "topk_pre_cut": (ar, FULL, False),
        "lazyar": (lazyar, FULL, False),
        "widths_by_level": (lazyar, BY_LEVEL, False),
        "int8": (int8, BY_LEVEL, False),
    }

    def job(name: str, batch: int, threads: int) -> Callable[[], object]:
        engine, widths, one_stage = rows[name]
        run = decoding(Decoder(engine, trie, threads=threads), batch, widths)

        def timed() -> None:
            with top_k_in_one_stage(one_stage):
                run()

        return timed

    figures: Figures = {}
    table: list[dict[str, Any]] = []
    for threads, batch in itertools.product(thread_counts(), (1, 8)):
        seconds = interleaved({name: job(name, batch, threads) for name in rows}, repeats, threads)
        before: float | None = None
        for name, taken in seconds.items():
            rps = batch / taken
            gain = None if before is None else 100 * (rps / before - 1)
            table.append({"threads": threads, "batch": batch, "row": name, "rps": rps, "gain_percent": gain,
                          "gr4ad_percent": PAPER_GAIN.get(name)})  # fmt: skip
            before = rps
            if batch == 8:
                figures[f"ladder_{name}_rps{suffix(threads)}"] = rps
    return figures, {"ladder": table}


def hugging_face(repeats: int) -> tuple[Figures, dict[str, Any]]:
    """Against generate(num_beams=128) on T5 over the same million ads, constraint as a dictionary and as a vectorised
    mask. Both sides answer with the semantic IDs of 128 ads and their scores; generate has no eCPM step, so ours leaves
    it out, and a further row has it."""
    config = small()
    sids_NT = random_sids(1_000_000, config.codebooks)
    theirs, ours = HuggingFace(config, sids_NT, FULL[-1]), Trie.build(sids_NT, config.codebooks)
    lazyar, ar = LazyAREngine(model_of(config)), LazyAREngine(model_of(small(0)))
    figures: Figures = {}
    table: list[dict[str, Any]] = []
    for threads, batch in itertools.product(thread_counts(), (1, 8)):
        with_ecpm = Decoder(lazyar, ours, threads=threads)
        decoder, plain = (
            Decoder(engine, ours, order_by="log_probability", ecpm_step=False, threads=threads)
            for engine in (lazyar, ar)
        )
        jobs: dict[str, Callable[[], object]] = {
            "generate_dictionary": theirs.job(batch, vectorised=False),
            "generate_mask": theirs.job(batch, vectorised=True),
            "by_level": decoding(decoder, batch, BY_LEVEL),
            "by_level_with_ecpm": decoding(with_ecpm, batch, BY_LEVEL),
            "equal_widths": decoding(decoder, batch, FULL),
            "plain_decoder_equal_widths": decoding(plain, batch, FULL),
        }
        seconds = interleaved(jobs, max(2, repeats // (4 if batch > 1 else 2)), threads)
        table += [{"threads": threads, "batch": batch, "row": name, "rps": batch / taken}
                  for name, taken in seconds.items()]  # fmt: skip
        labels = {"by_level": "", "by_level_with_ecpm": "_with_ecpm", "equal_widths": "_equal_widths"}
        for ours_, label in labels.items():
            end = f"b{batch}{label}{suffix(threads)}"
            figures[f"speedup_vs_hf_{end}"] = seconds["generate_dictionary"] / seconds[ours_]
            figures[f"speedup_vs_hf_mask_{end}"] = seconds["generate_mask"] / seconds[ours_]
    return figures, {"hugging_face": table}


def limit(repeats: int) -> tuple[Figures, dict[str, Any]]:
    """Against the bare matrix products of the same shapes, and LazyAR against the plain decoder."""
    trie, figures = catalogue(), dict[str, float]()
    table: list[dict[str, Any]] = []
    engines = {"lazyar": LazyAREngine(model_of(small(6))), "ar": LazyAREngine(model_of(small(0)))}
    for threads in thread_counts():
        jobs: dict[str, Callable[[], object]] = {}
        gflop: dict[str, float] = {}
        for name, engine in engines.items():
            decoder = Decoder(engine, trie, threads=threads)
            for label, widths in (("full", FULL), ("by_level", BY_LEVEL)):
                products, gflop[f"{name}_{label}"] = bare_products(engine.config, 8, widths)
                jobs |= {f"{name}_{label}": decoding(decoder, 8, widths), f"{name}_{label}_products": products}
        seconds, end = interleaved(jobs, repeats, threads), suffix(threads)
        for name, work in gflop.items():
            table.append({"threads": threads, "row": name, "gflop": work, "seconds": seconds[name],
                          "products_seconds": seconds[f"{name}_products"]})  # fmt: skip
            figures[f"limit_ratio_{name}_b8{end}"] = seconds[name] / seconds[f"{name}_products"]
        figures[f"limit_ratio_b8{end}"] = figures[f"limit_ratio_lazyar_full_b8{end}"]
        figures[f"lazyar_over_ar{end}"] = seconds["ar_full"] / seconds["lazyar_full"]
        figures[f"lazyar_over_ar_by_level{end}"] = seconds["ar_by_level"] / seconds["lazyar_by_level"]
    return figures, {"limit": table, "limit_settings": {"dtype": "float32", "batch": 8}}


def narrow(repeats: int) -> tuple[Figures, dict[str, Any]]:
    """What a decode costs at the narrowest rung of a spike: the `tiny` model, 40 000 ads, widths 4/4/8, one thread."""
    config = Config(size="tiny").model.model_copy(update={"dropout": 0.0})
    trie = Trie.build(random_sids(40_000, config.codebooks), config.codebooks)
    decoder = Decoder(model_of(config), trie)
    jobs = {str(batch): decoding(decoder, batch, (4, 4, 8)) for batch in (1, 4, 16, 64)}
    seconds = interleaved(jobs, 3 * repeats)
    return {f"narrow_decode_ms_b{batch}": 1000 * taken for batch, taken in seconds.items()}, {}


def mixed_batch(repeats: int) -> tuple[Figures, dict[str, Any]]:
    """Seven narrow requests and one wide, together and as two groups apart."""
    decoder, narrow, wide = Decoder(model_of(small()), catalogue()), (16, 32, 32), FULL
    context = full_context(decoder.config, 8)
    seconds = interleaved(
        {
            "together": lambda: decoder.decode(context, [narrow] * 7 + [wide]),
            "narrow": decoding(decoder, 7, narrow),
            "wide": decoding(decoder, 1, wide),
        },
        repeats,
    )
    ratio = seconds["together"] / (seconds["narrow"] + seconds["wide"])
    return {"mixed_batch_ratio": ratio}, {"mixed_batch": seconds}


def cost_model(repeats: int) -> tuple[Figures, dict[str, Any]]:
    """The fitted cost and its error, calibrated in about two seconds."""
    decoder = Decoder(model_of(small()), catalogue(100_000))
    contexts = {size: full_context(decoder.config, size) for size in (1, 2, 4, 8)}

    def decode(size: int, widths: Widths) -> None:
        decoder.decode(contexts[size], [widths] * size)

    shapes, times_ms = timed(decode, contexts, [(8, 16, 32), (16, 32, 64), BY_LEVEL, FULL], seconds=2.0)
    cost = fit(shapes, times_ms)
    errors = np.abs([cost.batch_ms([rows] * size) for size, rows in shapes] / np.array(times_ms) - 1)
    figures = {"cost_model_error": float(np.median(errors)), "cost_model_worst_error": float(errors.max())}
    return figures, {"cost": asdict(cost)}


SECTIONS: dict[str, Section] = {
    "ladder": ladder,
    "limit": limit,
    "narrow": narrow,
    "mixed": mixed_batch,
    "hf": hugging_face,
    "constraint": constraint_share,
    "filters": filters,
    "precision": precision,
    "cost": cost_model,
    "exact": exactness,
    "paper": paper_size,
    "trie_25m": trie_25m,
}


def draw(table: list[dict[str, Any]], path: Path) -> None:
    """The ladder at batch 8 and one thread as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in table if row["threads"] == 1 and row["batch"] == 8]
    figure, axes = pyplot.subplots(figsize=(8, 3.2))
    axes.barh([row["row"] for row in rows], [row["rps"] for row in rows], color="#3b6ea5")
    for place, row in enumerate(rows):
        gain = "" if row["gain_percent"] is None else f"  {row['gain_percent']:+.0f} %"
        theirs = "" if row["gr4ad_percent"] is None else f" (GR4AD {row['gr4ad_percent']:+.0f} %)"
        axes.text(row["rps"], place, f"{gain}{theirs}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("requests/s, batch 8, one thread, 128 final beams")
    axes.margins(x=0.35)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the sections and write decode.json and decode.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma-separated")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--processor-time", action="store_true", help="count processor seconds, one thread only")
    options = parser.parse_args()
    if options.processor_time:
        Clock.read = time.process_time
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(1)
    figures: Figures = {}
    extra: dict[str, Any] = {"settings": {"widths_full": FULL, "widths_by_level": BY_LEVEL, "repeats": options.repeats}}
    extra["settings"] |= {"clock": Clock.read.__name__, "load_before": os.getloadavg(), "threads": thread_counts()}
    for name in options.only.split(","):
        print(f"{name} ... (load {os.getloadavg()[0]:.1f})", flush=True)
        begun = time.perf_counter()
        found, tables = partial(SECTIONS[name], options.repeats)()
        print({key: round(value, 4) for key, value in found.items()}, flush=True)
        figures |= found
        extra |= tables
        extra["settings"].setdefault("section_seconds", {})[name] = round(time.perf_counter() - begun, 1)
    if "ladder" in extra:
        draw(extra["ladder"], Path("decode.png"))
    extra["settings"]["load_after"] = os.getloadavg()
    report("decode", figures, extra)
