"""Ragged beams: how they lie in memory, flat rows, requests of one schedule side by side.

Dense layers run on all rows at once. Where a request matters (its context, its top-k), each group of equal width is a
view [B, W, ...] of its rows, so a narrow request never pays for the width of its neighbour.

Shapes: B requests, W beams of a request, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Neighbouring requests of one width."""

    first_request: int
    requests: int
    width: int
    first_row: int

    def __contains__(self, request: int) -> bool:
        return self.first_request <= request < self.first_request + self.requests

    @property
    def of_requests(self) -> slice:
        """Its requests in the batch."""
        return slice(self.first_request, self.first_request + self.requests)

    @property
    def of_rows(self) -> slice:
        """Its rows."""
        return slice(self.first_row, self.first_row + self.requests * self.width)

    def view(self, x_R: Tensor) -> Tensor:
        """Its rows as [B, W, ...]."""
        return x_R[self.of_rows].view(self.requests, self.width, *x_R.shape[1:])


@dataclass(frozen=True)
class Layout:
    """The rows of one step."""

    groups: tuple[Group, ...]
    rows: int
    """R."""
    device: torch.device

    @classmethod
    def of(cls, requests: Sequence[int], widths: Sequence[int], device: torch.device) -> Layout:
        """Groups of `requests[g]` requests with `widths[g]` beams each."""
        groups, first_request, first_row = [], 0, 0
        for count, width in zip(requests, widths, strict=True):
            groups.append(Group(first_request, count, width, first_row))
            first_request += count
            first_row += count * width
        return cls(tuple(groups), first_row, device)

    @cached_property
    def request_R(self) -> Tensor:
        """int64, the request of each row."""
        parts = [torch.arange(g.requests, device=self.device).repeat_interleave(g.width) + g.first_request
                 for g in self.groups]  # fmt: skip
        return torch.cat(parts)
