"""What the search returns: against the exhaustive list, and in low precision against float32.

Shapes: B requests, n ads, T levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from adbeam.decoding import Decoder, DecodeResult, Trie, score_all
from adbeam.features.batch import ContextBatch
from benchmarks.decode.setup import BY_LEVEL, FULL, decoding, full_context, interleaved, model_of, random_sids, small

TINY = {"width": 32, "heads": 4, "layers": 3, "lazy_layers": 2, "codebooks": (64, 64, 64), "short_length": 24,
        "long_length": 7}  # fmt: skip


def exactness(repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """2 000 ads, 200 random contexts: exhaustive widths against the brute-force list, then real schedules."""
    config = small().model_copy(update=TINY)
    trie = Trie.build(random_sids(2000, config.codebooks), config.codebooks)
    model, context = model_of(config), full_context(config, 200)
    sids_nT = torch.from_numpy(trie.sids())
    log_p_Bn = score_all(model, context, sids_nT)[0]
    place = {tuple(sid): row for row, sid in enumerate(sids_nT.tolist())}
    decoder = Decoder(model, trie, order_by="log_probability")
    worst_score = worst_order = wrong_ids = 0.0
    found = _decode(decoder, context, (64, 2000, 2000))
    for b, result in enumerate(found):
        exact_n = log_p_Bn[b, [place[tuple(sid)] for sid in result.sids_nT.tolist()]]
        wrong_ids += len(place) - len({tuple(sid) for sid in result.sids_nT.tolist()})
        worst_score = max(worst_score, float((exact_n - result.log_probability_n).abs().max()))
        worst_order = max(worst_order, float((exact_n[1:] - exact_n[:-1]).max()))
    figures = {
        "exact_missing_ids": wrong_ids,
        "exact_worst_score_difference": worst_score,
        "exact_worst_order_inversion": worst_order,
    }
    for widths in ((4, 8, 16), (8, 16, 32), (16, 32, 64), BY_LEVEL, FULL):
        best_BnT = sids_nT[log_p_Bn.topk(widths[-1], dim=1).indices]
        found = _decode(decoder, context, widths)
        recall = np.mean([_overlap(best, result.sids_nT) for best, result in zip(best_BnT, found, strict=True)])
        figures["recall_" + "_".join(map(str, widths))] = float(recall)
    return figures, {}


def precision(repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Recall of the float32 list, score difference and speed of bfloat16, int8 and torch.compile; random weights."""
    config = small()
    trie, model = Trie.build(random_sids(100_000, config.codebooks), config.codebooks), model_of(small())
    context = full_context(config, 16)
    exact = Decoder(model, trie, order_by="log_probability")
    reference = _decode(exact, context, FULL)
    figures: dict[str, float] = {}
    jobs = {"float32": decoding(exact, 8, FULL)}
    variants: dict[str, dict[str, Any]] = {
        "bf16": {"precision": "bfloat16"},
        "int8": {"precision": "int8"},
        "compiled": {"compiled": True},
    }
    for name, options in variants.items():
        decoder = Decoder(model, trie, order_by="log_probability", **options)
        found = _decode(decoder, context, FULL)
        recall = np.mean([_overlap(a.sids_nT, b.sids_nT) for a, b in zip(reference, found, strict=True)])
        figures[f"{name}_recall_delta"] = float(recall) - 1
        figures[f"{name}_score_difference"] = max(_worst(a, b) for a, b in zip(reference, found, strict=True))
        jobs[name] = decoding(decoder, 8, FULL)
    seconds = interleaved(jobs, repeats)
    figures |= {f"{name}_speedup": seconds["float32"] / seconds[name] for name in jobs if name != "float32"}
    return figures, {"precision_seconds": seconds}


def _decode(decoder: Decoder, context: ContextBatch, widths: tuple[int, ...]) -> list[DecodeResult]:
    found: list[DecodeResult] = []
    for start in range(0, context.size, 8):
        part = context.rows(torch.arange(start, min(start + 8, context.size)))
        found += decoder.decode(part, [widths] * part.size)
    return found


def _overlap(wanted_nT: Tensor, found_nT: Tensor) -> float:
    wanted = {tuple(sid) for sid in wanted_nT.tolist()}
    return len(wanted & {tuple(sid) for sid in found_nT.tolist()}) / len(wanted)


def _worst(exact: DecodeResult, rough: DecodeResult) -> float:
    """Largest difference of log-probability over the ads in both lists, in nats."""
    score = dict(zip(map(tuple, exact.sids_nT.tolist()), exact.log_probability_n.tolist(), strict=True))
    pairs = zip(map(tuple, rough.sids_nT.tolist()), rough.log_probability_n.tolist(), strict=True)
    return max(abs(score[sid] - value) for sid, value in pairs if sid in score)
