"""`engine.precision: auto`: the precision that a replica decodes in, chosen when it loads a model, and why.

What a precision costs in money was measured at export, on requests whose outcome is known; whether it is faster, and
whether it answers alike, is measured here, on the processor that will serve.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from adbeam.decoding.engines.precision import Precision
from adbeam.model.lazyar import LazyAR
from adbeam.serving.engine.calibrate import probe_queries
from adbeam.serving.engine.engine import ModelEngine

logger = logging.getLogger(__name__)

LEAST_RATIO, LEAST_LOWER_RATIO = 0.995, 0.98
"""Of the money that float32 finds: in the mean, and at the lower bound over users."""
LEAST_AGREEMENT = 0.99
"""Of the first ten ads of float32's answers."""
PROBES, BATCH, ROUNDS = 32, 8, 3


@dataclass(frozen=True)
class PrecisionChoice:
    """What a replica decodes in."""

    asked: str
    """`engine.precision`."""
    chosen: Precision
    reason: str


AS_DECLARED = PrecisionChoice("float32", "float32", "engine.precision says so")


def choose(engine: ModelEngine, seconds: float) -> PrecisionChoice:
    """Put the precision in force that `engine.precision` asks for; `auto` is timed for about `seconds`."""
    asked = engine.config.precision
    if asked != "auto":
        return PrecisionChoice(asked, asked, AS_DECLARED.reason)
    choice = _automatic(engine, seconds)
    logger.info("decoding in %s: %s", choice.chosen, choice.reason)
    return choice


def _automatic(engine: ModelEngine, seconds: float) -> PrecisionChoice:
    config, model = engine.config, engine.recommender.model
    if config.device != "cpu":
        return _stays(f"auto compares the precisions of a CPU, and the model is on {config.device}")
    if not isinstance(model, LazyAR):
        return _stays(f"{type(model).__name__} decodes in one precision")
    candidate = candidate_for(processor_flags())
    if candidate is None:
        return _stays("the processor has neither AMX nor VNNI")
    if refusal := too_dear(engine.bundle.manifest.get("precision_quality"), candidate):
        return _stays(refusal)
    return _measured(engine, candidate, seconds)


def _stays(reason: str) -> PrecisionChoice:
    return PrecisionChoice("auto", "float32", reason)


@cache
def processor_flags() -> frozenset[str]:
    """Instruction sets of this machine's first processor, as Linux names them; empty where it does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "").split())


def candidate_for(flags: frozenset[str]) -> Precision | None:
    """What may be faster than float32 on a processor: bfloat16 with AMX, int8 where only VNNI is there."""
    if "amx_bf16" in flags:
        return "bfloat16"
    return "int8" if flags & {"avx512_vnni", "avx_vnni"} else None


def too_dear(quality: dict[str, Any] | None, precision: Precision) -> str | None:
    """Why a bundle's manifest forbids a precision; None where it finds enough of float32's money."""
    measured = (quality or {}).get("precisions", {}).get(precision)
    if measured is None:
        return (f"the bundle does not say what {precision} costs: export it with export.precision_requests, once more "
                "where its weights have changed since")  # fmt: skip
    ratio, lower = measured["value_recall_ratio"], measured["value_recall_ratio_lower"]
    if ratio >= LEAST_RATIO and lower >= LEAST_LOWER_RATIO:
        return None
    return (f"{precision} finds {ratio:.2%} of float32's money on validation requests (lower bound {lower:.2%}), and "
            f"{LEAST_RATIO:.1%} ({LEAST_LOWER_RATIO:.0%}) are asked for")  # fmt: skip


def _measured(engine: ModelEngine, candidate: Precision, seconds: float) -> PrecisionChoice:
    """The faster of float32 and a precision that answers alike, each timed in turn alone and in a batch."""
    queries = probe_queries(engine, PROBES)
    widths, recommender = engine.full_widths, engine.recommender
    decoders = {"float32": recommender.decoder, candidate: recommender.decoder_in(candidate)}
    lists: dict[str, list[list[str]]] = {}
    for name, decoder in decoders.items():
        recommender.decoder, lists[name] = decoder, []
        for start in range(0, PROBES, BATCH):
            part = queries[start : start + BATCH]
            lists[name] += [
                [ad["item_id"] for ad in answer.ads[:10]] for answer in engine.answer(part, [widths] * BATCH)
            ]
    recommender.decoder = decoders["float32"]
    agreement = shared(lists["float32"], lists[candidate])
    if agreement < LEAST_AGREEMENT:
        return _stays(f"{candidate} answers {agreement:.2%} of float32's first ten ads, and {LEAST_AGREEMENT:.0%} are "
                      "asked for")  # fmt: skip
    taken: dict[tuple[str, int], list[float]] = {}
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < ROUNDS or time.perf_counter() < end:
        for size in (1, BATCH):
            for name, decoder in decoders.items():
                recommender.decoder = decoder
                started = time.perf_counter()
                engine.answer(queries[:size], [widths] * size)
                taken.setdefault((name, size), []).append(time.perf_counter() - started)
        rounds += 1
    alone, batched = (median(taken["float32", size]) / median(taken[candidate, size]) for size in (1, BATCH))
    faster = alone * batched > 1
    recommender.decoder = decoders[candidate if faster else "float32"]
    said = (f"{candidate} is {alone:.2f} times as fast as float32 at batch 1 and {batched:.2f} at batch {BATCH}, and "
            f"answers {agreement:.2%} of its first ten ads")  # fmt: skip
    return PrecisionChoice("auto", candidate, said) if faster else _stays(said)


def shared(lists: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> float:
    """Share of the ads of `lists` that the other list of the same request holds too; 1 where there are none."""
    total = sum(map(len, lists))
    return sum(len(set(one) & set(other)) for one, other in zip(lists, others, strict=True)) / total if total else 1.0
