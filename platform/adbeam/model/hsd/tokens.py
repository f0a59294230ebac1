"""The one sequence of a request (GPR 2.1): who the user is, what he did, and where and when he asks.

In this order: user tokens (his attributes, then the items he dealt with most), his newest events oldest first, each an
organic or an ad token, and last the environment of this request. All of it lies before the request.

Shapes: B requests, N tokens, n tokens that are there, D width, F static features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from adbeam.features.spec import FeatureSpec
from adbeam.logs.requests import AD

USER, ORGANIC, ENVIRONMENT, ADVERT = range(4)
"""Token types U, O, E and I."""
TYPES = 4
_OF_ENVIRONMENT = ("scene", "weekday", "hour")
_OF_USER = ("user", "activity")


@dataclass(frozen=True)
class TypedTokens:
    """One sequence a request."""

    x_BND: Tensor
    type_BN: Tensor
    """int64, one of the four types; any where there is no token."""
    mask_BN: Tensor
    """bool, true where there is a token."""


@dataclass(frozen=True)
class TypeSlices:
    """The tokens that are there, sorted by type once: what has weights of its own for each type runs on slices that lie
    side by side, at the cost of one set of weights."""

    place_n: Tensor
    """int64, places in the flattened [B, N], by type."""
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, type_BN: Tensor, mask_BN: Tensor) -> Self:
        """Of a batch's tokens."""
        place_n = mask_BN.flatten().nonzero()[:, 0]
        type_n, order_n = type_BN.flatten()[place_n].sort(stable=True)
        return cls(place_n[order_n], tuple(torch.bincount(type_n, minlength=TYPES).tolist()))

    def apply(self, of_type: Iterable[nn.Module], x_BND: Tensor) -> Tensor:
        """[B, N, D], each token by its type's module; 0 where there is none. Every module runs, if on nothing: ZeRO-3
        must gather the same weights on all workers."""
        x = x_BND.flatten(0, 1)
        parts = torch.split(x.index_select(0, self.place_n), list(self.sizes))
        out = torch.cat([module(part) for module, part in zip(of_type, parts, strict=True)])
        return out.new_zeros(x.shape).index_copy(0, self.place_n, out).view_as(x_BND)


def event_types(kind_BN: Tensor) -> Tensor:
    """Types of events by their item's kind."""
    return torch.where(kind_BN == AD, ADVERT, ORGANIC)


def static_columns(spec: FeatureSpec) -> tuple[list[bool], list[bool]]:
    """Which of the F columns of static features belong to the user's token and to the environment's. Declared features
    belong to both: the model is not told whether they come from a profile or from the request."""
    names = [name for name in spec.static for _ in range(spec.lists.get(name, 1))]
    return [name not in _OF_ENVIRONMENT for name in names], [name not in _OF_USER for name in names]
