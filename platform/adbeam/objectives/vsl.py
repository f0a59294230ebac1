"""Value-aware supervised learning (GR4AD 1.5).

    L_NTP = L_SID + lambda_e L_eCPM
    L_VSL = E[ w L_NTP + lambda_mtp L_MTP ]        version A
    L_VSL = E[ w ( L_NTP + lambda_mtp L_MTP ) ]    version B

Shapes: B contexts, P prefixes of one context, M targets of one prefix.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adbeam.features.batch import TrainBatch
from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.ecpm import EcpmBuckets, SlidingEcpm
from adbeam.objectives.weights import user_weight

__all__ = ["EcpmBuckets", "SlidingEcpm", "user_weight", "vsl_loss", "vsl_over_prefixes", "vsl_per_target"]


def vsl_per_target(losses: Mapping[str, Tensor], weight_BPM: Tensor, config: ObjectivesConfig) -> Tensor:
    """L_VSL of each target [B, P, M] before the mean; 0 where the weight is 0 (padding).

    `losses` are LazyAR's: "sid", "ecpm" (unless it was left out) and, unless lambda_mtp is 0, "mtp", each [B, P, M].
    """
    learnt = losses["sid"] + config.lambda_ecpm * losses["ecpm"] if "ecpm" in losses else losses["sid"]
    per_target = weight_BPM * learnt
    if config.lambda_mtp and "mtp" in losses:
        auxiliary = weight_BPM if config.weighting == "B" else (weight_BPM > 0).to(weight_BPM.dtype)
        per_target = per_target + config.lambda_mtp * auxiliary * losses["mtp"]
    return per_target


def vsl_loss(
    losses: Mapping[str, Tensor], batch: TrainBatch, config: ObjectivesConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """(L_VSL as a scalar, metrics as detached scalars).

    The mean runs over prefixes, and inside a prefix over its targets: one prefix counts once however much followed it.
    So workers with equally many contexts average to the loss of the whole batch. Metrics, over targets and unweighted:
    "sid", "ecpm" (of known buckets), "mtp" in nats, "level_1"... the terms of "sid", "targets" how many there were.
    """
    real_BPM = batch.weight_BPM > 0
    per_target = vsl_per_target(losses, batch.weight_BPM, config)
    loss = (per_target.sum(-1) / real_BPM.sum(-1).clamp_min(1)).mean()
    return loss, vsl_metrics(losses, batch, real_BPM)


def vsl_over_prefixes(
    losses: Mapping[str, Tensor], batch: TrainBatch, config: ObjectivesConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """As `vsl_loss` of batches that hold all prefixes of a user: every target counts once, however many its user has.

    Workers whose users have about equally many targets average to the loss of the whole batch.
    """
    real_BPM = batch.weight_BPM > 0
    loss = vsl_per_target(losses, batch.weight_BPM, config).sum() / real_BPM.sum().clamp_min(1)
    return loss, vsl_metrics(losses, batch, real_BPM)


@torch.no_grad()
def vsl_metrics(losses: Mapping[str, Tensor], batch: TrainBatch, real_BPM: Tensor) -> dict[str, Tensor]:
    """Means over the real targets."""
    targets = real_BPM.sum()

    def mean(loss: Tensor, where: Tensor = real_BPM) -> Tensor:
        return (loss * where).sum() / where.sum().clamp_min(1)

    metrics = {name: mean(losses[name]) for name in ("sid", "mtp") if name in losses}
    if "ecpm" in losses:
        metrics["ecpm"] = mean(losses["ecpm"], real_BPM & (batch.bucket_BPM >= 0))
    for level, loss in enumerate(losses.get("level", ()), start=1):
        metrics[f"level_{level}"] = mean(loss)
    return {**metrics, "targets": targets.float()}
