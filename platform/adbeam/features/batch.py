"""The arrays a model reads, and nothing else: what crosses between features, training, decoding and serving.

Shapes: B contexts, S context length, T SID levels, F static features, C token features, P prefixes of one context,
M targets of one prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ContextBatch:
    """What is known about B requests before any ad is generated."""

    static_BF: Tensor
    """int64, categorical features of the user and the request (features/spec.py gives the vocabulary sizes)."""
    code_BST: Tensor
    """int64, SID codes of the history tokens; -1 where there is no token."""
    feature_BSC: Tensor
    """int64, categorical features of each token: pathway, action, kind, recency, count and value buckets."""
    mask_BS: Tensor
    """bool, true where there is a token."""
    trend_code_BNT: Tensor | None = None
    """int64, SID codes of the ads that convert most lately; -1 where there is none. N ads."""
    trend_feature_BNC: Tensor | None = None
    """int64, bucketed shares of the conversions of each window."""
    short_places: int | None = None
    """How many places behind the static token are of the short pathway; None: as many as the model's settings say."""
    head_B: Tensor | None = None
    """int64, which prediction head of the model each row is read for; None: the first."""
    origin_B: Tensor | None = None
    """int64, equal where rows are one request read for several heads."""

    @classmethod
    def of(
        cls,
        static_BF: np.ndarray,
        code_BST: np.ndarray,
        feature_BSC: np.ndarray,
        trend_code_BNT: np.ndarray | None = None,
        trend_feature_BNC: np.ndarray | None = None,
        short_places: int | None = None,
    ) -> Self:
        """The batch of such arrays in any integer type; trends count only where both of their arrays are given."""
        code = _tensor(code_BST)
        mask = code[..., 0] >= 0
        mask[:, 0] = True  # the static token has no code, and is always there
        parts = _tensor(static_BF), code, _tensor(feature_BSC), mask
        if trend_code_BNT is None or trend_feature_BNC is None:
            return cls(*parts, short_places=short_places)
        return cls(*parts, _tensor(trend_code_BNT), _tensor(trend_feature_BNC), short_places)

    @property
    def size(self) -> int:
        """B."""
        return self.static_BF.shape[0]

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return self._map(lambda part: part.to(device, non_blocking=True))

    def rows(self, row_b: Tensor) -> Self:
        """The contexts of some of the requests, in the order of `row_b`."""
        return self._map(lambda part: part.index_select(0, row_b))

    def for_heads(self, heads: int) -> Self:
        """[heads * B] rows: all requests for the first head, then for the second, and so on."""
        origin_R = torch.arange(self.size, device=self.static_BF.device).repeat(heads)
        head_R = torch.arange(heads, device=origin_R.device).repeat_interleave(self.size)
        return replace(self.rows(origin_R), head_B=head_R, origin_B=origin_R)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {
            name: change(part) if isinstance(part, Tensor) else part for name, part in parts.items()
        }
        return type(self)(**changed)


@dataclass(frozen=True)
class TrainBatch:
    """Contexts with the items that followed them. A target of weight 0 is padding."""

    context: ContextBatch
    visible_BP: Tensor
    """int64, how many of the context's tokens prefix p may see; S means all (one request a context: P = 1)."""
    code_BPMT: Tensor
    """int64, SID codes of the targets; any valid code where the weight is 0."""
    bucket_BPM: Tensor
    """int64, eCPM bucket of the targets; -1 where the value is unknown."""
    weight_BPM: Tensor
    """float32, w = w_user * w_behavior (GR4AD 1.5)."""
    head_BPM: Tensor | None = None
    """int64, which prediction head learns each target; None: the first learns all."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: None if part is None else part.to(device) for name, part in parts.items()}
        return type(self)(**moved)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
