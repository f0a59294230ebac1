"""Co-occurrence learning: a projection that pulls items together that users choose together (GR4AD eq 1).

The embeddings stay frozen. The projection starts as the identity (its residual branch ends in zeros) and learns from
Swing neighbours as positives; the rest of a batch are negatives.

Shapes: N items, K neighbours, B items of a batch, E features.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor, nn

from adbeam.tokens.config import CooccurrenceConfig

log = logging.getLogger(__name__)


class Projection(nn.Module):
    """z = (x + MLP(x)) / ||x + MLP(x)||."""

    def __init__(self, features: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.down = nn.Linear(features, hidden)
        self.up = nn.Linear(hidden, features)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x_BE: Tensor) -> Tensor:
        """float32 [B, E], unit length."""
        z_BE = x_BE + self.up(torch.nn.functional.gelu(self.down(self.dropout(x_BE))))
        return torch.nn.functional.normalize(z_BE, dim=-1)

    @torch.inference_mode()
    def apply_to(self, x_NE: np.ndarray, batch: int = 65_536) -> np.ndarray:
        """float32 [N, E]: projected vectors; a row of zeros stays zero."""
        self.eval()
        parts = [self(torch.from_numpy(x_NE[start : start + batch])).numpy() for start in range(0, len(x_NE), batch)]
        z_NE = np.concatenate(parts) if parts else x_NE.copy()
        z_NE[~x_NE.any(axis=1)] = 0
        return z_NE


def multi_positive_info_nce(z_BE: Tensor, positive_BB: Tensor, temperature: float) -> Tensor:
    """Scalar: the mean over items with a positive in the batch of GR4AD eq 1, whose positive sum is inside the log:

    -log [ sum_{j in P_i} exp(z_i.z_j / tau) / sum_{k != i} exp(z_i.z_k / tau) ]
    """
    itself_BB = torch.eye(len(z_BE), dtype=torch.bool, device=z_BE.device)
    logit_BB = (z_BE @ z_BE.T / temperature).masked_fill(itself_BB, -torch.inf)
    positive_BB = positive_BB & ~itself_BB
    has_B = positive_BB.any(dim=1)
    every_B = logit_BB[has_B].logsumexp(dim=1)
    positive_B = logit_BB[has_B].masked_fill(~positive_BB[has_B], -torch.inf).logsumexp(dim=1)
    return (every_B - positive_B).mean()


def train_projection(
    x_NE: np.ndarray, item_NK: np.ndarray, score_NK: np.ndarray, config: CooccurrenceConfig, *, seed: int
) -> Projection:
    """Fit a projection to Swing neighbours (-1 where there are fewer than K)."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    projection = Projection(x_NE.shape[1], config.hidden, config.dropout)
    optimizer = torch.optim.AdamW(projection.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    x = torch.from_numpy(np.ascontiguousarray(x_NE, np.float32))
    anchors_N = np.flatnonzero((item_NK >= 0).any(axis=1))
    if not len(anchors_N):
        log.warning("no two items go together often enough: the projection stays the identity")
        return projection
    steps = max(1, len(anchors_N) * 2 // config.batch_items) * config.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.1)
    projection.train()
    for step in range(steps):
        chosen_B, positive_BB = draw_batch(anchors_N, item_NK, score_NK, config.batch_items, random)
        loss = multi_positive_info_nce(projection(x[chosen_B]), torch.from_numpy(positive_BB), config.temperature)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            log.info("co-occurrence step %d of %d: loss %.4f", step, steps, loss.item())
    return projection.eval()


def draw_batch(
    anchors_N: np.ndarray, item_NK: np.ndarray, score_NK: np.ndarray, size: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(items [B], positive [B, B]): random anchors, each with one neighbour drawn by Swing score; all pairs marked."""
    anchor_A = random.choice(anchors_N, min(size // 2, len(anchors_N)), replace=False)
    weight_AK = score_NK[anchor_A].cumsum(axis=1)
    drawn_A = (weight_AK < random.random((len(anchor_A), 1)) * weight_AK[:, -1:]).sum(axis=1)
    chosen_B = np.unique(np.concatenate([anchor_A, item_NK[anchor_A, np.minimum(drawn_A, item_NK.shape[1] - 1)]]))
    chosen_B = chosen_B[chosen_B >= 0]
    near_BK = item_NK[chosen_B]
    place_BK = np.searchsorted(chosen_B, near_BK).clip(max=len(chosen_B) - 1)
    found_BK = (chosen_B[place_BK] == near_BK) & (near_BK >= 0)
    positive_BB = np.zeros((len(chosen_B), len(chosen_B)), bool)
    positive_BB[np.nonzero(found_BK)[0], place_BK[found_BK]] = True
    return chosen_B, positive_BB | positive_BB.T
