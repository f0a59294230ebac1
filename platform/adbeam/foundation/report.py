"""How well the foundation tells what is chosen, scene by scene: AUC with the positives it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from sklearn.metrics import roc_auc_score

from adbeam.foundation.data.rows import LABELS, from_table
from adbeam.foundation.scoring import Foundation

CONTENT, UNSEEN = "content branch", "scenes not seen"
Report = dict[str, dict[str, dict[str, Any]]]


def judge(model: Foundation, rows: Path, limit: int) -> Report:
    """{scene: {label: {"rows", "positives", "auc", "standard_error"}}} of the first `limit` rows under a folder, the
    content branch as a scene of its own. AUC is None where one class is missing."""
    files = sorted(str(path) for path in rows.glob("*.parquet"))
    if not files:
        return {}
    row = from_table(ds.dataset(files).head(limit))
    probability_R2 = model.probabilities(row)
    return {
        name: {
            label: auc_of(probability_R2[chosen_R, place], row["label"][chosen_R, place], row["weight"][chosen_R, 0])
            for place, label in enumerate(LABELS)
        }
        for name, chosen_R in _groups(row, model.scenes)
    }


def _groups(row: dict[str, np.ndarray], scenes: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    is_ad_R, scene_R = row["ad"][:, 0] > 0, row["context"][:, 0]
    for place, name in enumerate((UNSEEN, *scenes)):
        chosen_R = is_ad_R & (scene_R == place)
        if chosen_R.any():
            yield name, chosen_R
    if not is_ad_R.all():
        yield CONTENT, ~is_ad_R


def auc_of(score_R: np.ndarray, label_R: np.ndarray, weight_R: np.ndarray) -> dict[str, Any]:
    """AUC, weighted, with the standard error of Hanley and McNeil (1982) by the numbers of rows."""
    positives = int((label_R > 0).sum())
    found: dict[str, Any] = {"rows": len(label_R), "positives": positives, "auc": None, "standard_error": None}
    if 0 < positives < len(label_R):
        auc = float(roc_auc_score(label_R, score_R, sample_weight=weight_R))
        found |= {"auc": auc, "standard_error": standard_error(auc, positives, len(label_R) - positives)}
    return found


def standard_error(auc: float, positives: int, negatives: int) -> float:
    """Of an AUC, by Hanley and McNeil (1982)."""
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (first - auc**2) + (negatives - 1) * (second - auc**2)
    return math.sqrt(max(spread, 0.0) / (positives * negatives))


def lines(report: Report) -> list[str]:
    """The report as it is printed: a line a scene and label that has a row, those without an AUC with the reason."""
    found = [f"{'scene':<24} {'label':<10} {'rows':>8} {'positives':>9}    auc"]
    for scene, labels in report.items():
        for label, one in labels.items():
            said = "one class only" if one["auc"] is None else f"{one['auc']:.4f} +- {one['standard_error']:.4f}"
            found.append(f"{scene:<24} {label:<10} {one['rows']:>8} {one['positives']:>9} {said}")
    return found


def macro_auc(report: Report, label: str) -> float:
    """Mean AUC of a label over the ads' scenes that have one; NaN where none has."""
    scenes = [labels[label]["auc"] for name, labels in report.items() if name != CONTENT]
    known = [auc for auc in scenes if auc is not None]
    return float(np.mean(known)) if known else float("nan")
