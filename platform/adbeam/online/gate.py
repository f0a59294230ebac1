"""The validation gate: a new model replaces the old one only where held-out requests say, with confidence, that it is
not worse.

Two figures are compared request by request: the value-weighted log-likelihood of what followed, and value-weighted
NDCG of the ranking over the live catalogue. The first has the power to see small changes, the second is what the ads
are shown by. Both lower confidence bounds (paired bootstrap) must hold. The second has a margin, since rankings are
noisy; what a published round has lost of it is owed by those after it, so that small losses do not add up.

Shapes: B requests, M targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from adbeam.evaluation.metrics import value_ndcg_at
from adbeam.inference.recommender import Recommender
from adbeam.logs.requests import Request
from adbeam.online.config import GateConfig
from adbeam.training.data.batches import BatchMaker

ROUNDS = 2000
"""Bootstrap samples: so many that the bound moves by a twentieth of a standard error from seed to seed."""
BATCH = 64


@dataclass(frozen=True)
class Verdict:
    """What the gate says; differences are new minus old, `_lower` their one-sided bounds."""

    published: bool
    reason: str
    requests: int
    likelihood: float = float("nan")
    likelihood_lower: float = float("nan")
    ndcg: float = float("nan")
    ndcg_lower: float = float("nan")
    old_ndcg: float = float("nan")
    new_ndcg: float = float("nan")
    ndcg_owed: float = float("nan")
    """NDCG lost by published rounds, this one with them, and not yet won back."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values; what was not measured is null."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def judge(
    old: Recommender,
    new: Recommender,
    table: pa.Table,
    maker: BatchMaker,
    requests: Sequence[Request],
    config: GateConfig,
    widths: tuple[int, ...],
    owed: float = 0.0,
) -> Verdict:
    """Compare two models on held-out rows and requests; `owed` is the old model's `ndcg_owed`."""
    if len(table) < config.min_requests or len(requests) < 2:
        return Verdict(False, f"only {len(table)} held-out requests, fewer than {config.min_requests}", len(table))
    gained_B = likelihoods(new.model, table, maker) - likelihoods(old.model, table, maker)
    if not np.isfinite(gained_B).all():
        return Verdict(False, "the new model's likelihoods are not finite", len(gained_B))
    before_B, after_B = (_ndcg(recommender, requests, config.cutoff, widths) for recommender in (old, new))
    return decide(gained_B, before_B, after_B, config, owed)


def decide(
    gained_B: np.ndarray, before_B: np.ndarray, after_B: np.ndarray, config: GateConfig, owed: float = 0.0
) -> Verdict:
    """The verdict from log-likelihoods gained by rows and NDCG by requests, of the old model and of the new."""
    likelihood_lower = lower_bound(gained_B, config.confidence)
    ndcg_lower = lower_bound(after_B - before_B, config.confidence)
    ndcg_margin = config.ndcg_margin_share * float(before_B.mean()) - owed
    reason = ""
    if likelihood_lower < -config.likelihood_margin:
        reason = f"log-likelihood may be worse: bound {likelihood_lower:.4g} nats below -{config.likelihood_margin:.4g}"
    elif ndcg_lower < -ndcg_margin:
        reason = f"value NDCG@{config.cutoff} may be worse: bound {ndcg_lower:.4g} below {-ndcg_margin:.4g}"
    figures = {
        "likelihood": float(gained_B.mean()),
        "likelihood_lower": likelihood_lower,
        "ndcg": float((after_B - before_B).mean()),
        "ndcg_lower": ndcg_lower,
        "old_ndcg": float(before_B.mean()),
        "new_ndcg": float(after_B.mean()),
        "ndcg_owed": max(0.0, owed - float((after_B - before_B).mean())),
    }
    return Verdict(not reason, reason or "not worse on held-out requests", len(gained_B), **figures)


@torch.inference_mode()
def likelihoods(model: Any, table: pa.Table, maker: BatchMaker) -> np.ndarray:
    """float64 [B]: log p of each row's targets in nats, weighted by their behaviour and value inside the row."""
    parts = []
    for start in range(0, len(table), BATCH):
        part = table.slice(start, BATCH)
        batch = maker.batch(part)
        nll_BM = model.train_losses(batch, mtp=False)["sid"][:, 0].double().numpy()
        value_BM = maker.format.from_table(part)["value_M"][:, : nll_BM.shape[1]]
        weight_BM = batch.weight_BPM[:, 0].double().numpy() * np.log1p(np.maximum(value_BM, 0) + 1e-3)
        parts.append(-(weight_BM * nll_BM).sum(1) / np.maximum(weight_BM.sum(1), 1e-12))
    return np.concatenate(parts)


def lower_bound(difference_B: np.ndarray, confidence: float, seed: int = 0) -> float:
    """One-sided lower bound of the mean of paired differences, by bootstrap over requests."""
    draws = np.random.default_rng(seed).integers(0, len(difference_B), size=(ROUNDS, len(difference_B)))
    return float(np.quantile(difference_B[draws].mean(axis=1), 1 - confidence))


def _ndcg(recommender: Recommender, requests: Sequence[Request], k: int, widths: tuple[int, ...]) -> np.ndarray:
    ranked = recommender.rank(requests, widths, k)
    pairs = zip(ranked, requests, strict=True)
    return np.array([value_ndcg_at(answer, request.ad_targets(), k) for answer, request in pairs])
