"""What low precision costs a bundle, measured on validation requests when it is exported.

Shapes: N requests, U users.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from adbeam.decoding.engines.precision import Precision
from adbeam.evaluation.metrics import bootstrap_ratio, recall_at, value_recall_at
from adbeam.inference.recommender import Recommender
from adbeam.logs.requests import Request


def measure_precisions(
    recommender: Recommender, requests: Sequence[Request], widths: Sequence[int], *, k: int = 10
) -> dict[str, Any]:
    """The manifest's `precision_quality`: recall@k, the share of converted money found at `widths` in each precision,
    and the ratio of that share to float32's with its lower bound (95 %, paired, users drawn anew).

    The recommender decodes as before afterwards.
    """
    names = [request.sequence.user_id for request in requests]
    user_N = np.unique(names, return_inverse=True)[1]
    before, shares = recommender.decoder, dict[Precision, np.ndarray]()
    recalls: dict[Precision, float] = {}
    for precision in get_args(Precision):
        recommender.decoder = recommender.decoder_in(precision)
        ranked = recommender.rank(requests, tuple(widths), k)
        pairs = [(answer, request.ad_targets()) for answer, request in zip(ranked, requests, strict=True)]
        recalls[precision] = float(np.mean([recall_at(answer, targets, k) for answer, targets in pairs]))
        shares[precision] = np.array([value_recall_at(answer, targets, k) for answer, targets in pairs])
    recommender.decoder = before
    by_user = {precision: np.bincount(user_N, share_N) for precision, share_N in shares.items()}
    found: dict[str, dict[str, float]] = {}
    for precision, share_U in by_user.items():
        ratio, lower, _ = bootstrap_ratio(share_U, by_user["float32"])
        found[precision] = {
            "recall": recalls[precision],
            "value_recall": float(shares[precision].mean()),
            "value_recall_ratio": ratio,
            "value_recall_ratio_lower": lower,
        }
    return {"k": k, "requests": len(requests), "users": int(user_N.max()) + 1, "widths": list(widths),
            "precisions": found}  # fmt: skip
