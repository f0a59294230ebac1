"""Exact top-k in two stages (GR4AD 1.8.3, "TopK pre-cut").

First the best of every chunk of candidates in one pass, then a top-k over the chunks with the best maxima. The k best
candidates lie in the k chunks with the best maxima, so nothing is lost; GR4AD's chunk is one beam.

Shapes: B requests, n candidates, k kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 32
"""Candidates of one chunk."""


def top_k(score_Bn: Tensor, k: int, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """The k best scores of each row in falling order, and where they are (both [B, k]). k must not exceed n."""
    B, n = score_Bn.shape
    chunks = -(-n // chunk)
    if chunks < 2 * k:
        return torch.topk(score_Bn, k, dim=1)
    if n % chunk:
        score_Bn = torch.nn.functional.pad(score_Bn, (0, chunks * chunk - n), value=float("-inf"))
    score_BCc = score_Bn.view(B, chunks, chunk)
    best_BC = score_BCc.amax(dim=2)
    kept_Bk = torch.topk(best_BC, k, dim=1, sorted=False).indices
    inside = score_BCc.gather(1, kept_Bk[:, :, None].expand(-1, -1, chunk)).flatten(1)
    value_Bk, place_Bk = torch.topk(inside, k, dim=1)
    return value_Bk, kept_Bk.gather(1, place_Bk // chunk) * chunk + place_Bk % chunk
