"""Results of a beam search: what it is asked and what it answers.

Shapes: n ads of one request, T levels, K eCPM buckets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adbeam.decoding.config import OrderBy


@dataclass(frozen=True)
class DecodeResult:
    """The ads of one request, best first. All tensors are on the CPU; n may be 0 when a filter leaves nothing."""

    sids_nT: Tensor
    """int64, semantic IDs."""
    log_probability_n: Tensor
    """float32, log p(s_1..s_T | X) in nats, normalised over the full codebook of each level."""
    ecpm_distribution_nK: Tensor
    """float32, p(bucket | SID, X)."""
    expected_ecpm_n: Tensor
    """float32, sum of p(bucket) x mean eCPM of the bucket, in the catalogue's currency."""
    widths: tuple[int, ...]
    """The schedule it was searched with."""

    @property
    def size(self) -> int:
        """n."""
        return len(self.sids_nT)


def order(log_probability: Tensor, expected_ecpm: Tensor, by: OrderBy) -> Tensor:
    """Sort key [..., n], higher is better (GR4AD 1.5: the eCPM step orders the generated ads at serving).

    `expected_value` is probability x expected eCPM; in logarithms, so that small probabilities keep their order.
    """
    if by == "log_probability":
        return log_probability
    if by == "expected_ecpm":
        return torch.where(log_probability.isinf(), log_probability, expected_ecpm)
    return log_probability + expected_ecpm.clamp_min(1e-12).log()
