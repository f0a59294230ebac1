"""Self-attention of the beams: each row over its own earlier steps and itself, fetched by row number.

Shapes: R rows, t steps so far (this one included), H heads, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

BLOCK = 256
"""Rows at a time: what is fetched for them then stays in the cache of one core."""

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def attend_own_past(query_RD: Tensor, stored: Tensor, row_tR: Tensor, heads: int) -> Tensor:
    """[R, D]. `stored` are keys and values [rows of all steps, 2D], `row_tR` the rows there that each row looks at."""
    steps, (R, D) = len(row_tR), query_RD.shape
    fetched = stored.index_select(0, row_tR.reshape(-1)).view(steps, R, 2, heads, -1)
    key_tRHd, value_tRHd = fetched.unbind(2)
    share_tRH = (key_tRHd * query_RD.view(R, heads, -1)).sum(-1).softmax(0)
    return (value_tRHd * share_tRH[..., None]).sum(0).view(R, D)


def in_blocks(attend: Attend, query_RD: Tensor, stored: Tensor, row_tR: Tensor, heads: int) -> Tensor:
    """`attend` over a few hundred rows at a time."""
    R = len(query_RD)
    if R <= BLOCK + BLOCK // 2:
        return attend(query_RD, stored, row_tR, heads)
    starts = range(0, R, BLOCK)
    return torch.cat([
        attend(query_RD[at : at + BLOCK], stored, row_tR[:, at : at + BLOCK], heads) for at in starts
    ])  # fmt: skip


def compiled_or_plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` compiled on first use, or itself, with a warning, where that fails."""
    faster: list[Callable[..., Tensor]] = [torch.compile(function, dynamic=True)]

    def call(*given: Any) -> Tensor:
        try:
            return faster[0](*given)
        except Exception as error:
            if faster[0] is function:
                raise
            logger.warning("torch.compile failed, searching without it: %s", str(error).splitlines()[0])
            faster[0] = function
            return function(*given)

    return call
