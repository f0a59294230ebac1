"""What each rung of the beam ladder is worth, measured on validation requests when a bundle is exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adbeam.beams.ladder import generate_schedules
from adbeam.evaluation.metrics import recall_at, value_recall_at
from adbeam.inference.recommender import Recommender
from adbeam.logs.requests import Request


def measure_ladder(
    recommender: Recommender, requests: Sequence[Request], full_widths: Sequence[int], *, k: int = 10
) -> dict[str, Any]:
    """The bundle's `ladder_quality.json`: recall@k, the share of converted money found, and the expected eCPM of an
    answered ad (of a recommender that finds it), by schedule.

    `quality` is recall@k, what the ladder's Pareto rungs are chosen by.
    """
    schedules = []
    for widths in generate_schedules(full_widths):
        valued = recommender.valued(requests, widths, k)
        pairs = [([ad for ad, _ in answer], r.ad_targets()) for answer, r in zip(valued, requests, strict=True)]
        recall = float(np.mean([recall_at(answer, targets, k) for answer, targets in pairs]))
        value = float(np.mean([value_recall_at(answer, targets, k) for answer, targets in pairs]))
        ecpm = float(np.mean([ecpm for answer in valued for _, ecpm in answer] or [0.0]))
        entry = {"widths": list(widths), "quality": recall, "value_recall": value, "expected_ecpm": ecpm}
        schedules.append(entry)
    return {
        "metric": f"recall@{k}",
        "split": "validation",
        "requests": len(requests),
        "full_widths": list(full_widths),
        "schedules": schedules,
    }
