"""Several prediction heads of one model (GPR eq 3): each searches as a request of its own, and their answers are mixed.

A head's share of the beams is its weight, so that the rows of a schedule stay what the controller planned, but for one
row a head and level at most.

Shapes: N heads, n ads of all heads, u distinct SIDs, K eCPM buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch

from adbeam.decoding.config import OrderBy
from adbeam.decoding.results import DecodeResult, order
from adbeam.decoding.search import Schedule, Wanted


def shares(wanted: Wanted, weights: Sequence[float]) -> list[Wanted]:
    """What each head is asked for. The first alone finds as many ads as the answer is to hold, so an answer is short
    only where no more ads exist."""
    widths, needed = wanted
    parts = [tuple(ceil(width * weight) for width in widths) for weight in weights]
    first = (*parts[0][:-1], max(parts[0][-1], needed))
    return [(first, max(needed, min(first))), *((part, min(part)) for part in parts[1:])]


def merge(
    parts: Sequence[DecodeResult], weights: Sequence[float], widths: Schedule, order_by: OrderBy, limit: int | None
) -> DecodeResult:
    """One answer from those of all heads: log p of a SID is logsumexp_j(log omega_j + log p_j) over the heads that
    found it, and its eCPM is the heads' mean by their part in that."""
    sid_nT = torch.cat([part.sids_nT for part in parts])
    log_p_n = torch.cat([
        part.log_probability_n + torch.tensor(weight).log() for part, weight in zip(parts, weights, strict=True)
    ])  # fmt: skip
    ecpm_nK = torch.cat([part.ecpm_distribution_nK for part in parts])
    expected_n = torch.cat([part.expected_ecpm_n for part in parts])
    sid_uT, place_n = torch.unique(sid_nT, dim=0, return_inverse=True)
    u = len(sid_uT)
    most_u = log_p_n.new_full((u,), float("-inf")).scatter_reduce(0, place_n, log_p_n, "amax")
    total_u = most_u + log_p_n.new_zeros(u).index_add(0, place_n, (log_p_n - most_u[place_n]).exp()).log()
    part_n = (log_p_n - total_u[place_n]).exp()
    mixed_uK = ecpm_nK.new_zeros(u, ecpm_nK.shape[1]).index_add(0, place_n, part_n[:, None] * ecpm_nK)
    mixed_u = expected_n.new_zeros(u).index_add(0, place_n, part_n * expected_n)
    turn = order(total_u, mixed_u, order_by).argsort(descending=True, stable=True)[:limit]
    return DecodeResult(sid_uT[turn], total_u[turn], mixed_uK[turn], mixed_u[turn], widths)
