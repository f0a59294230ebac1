"""Contexts of single requests as one batch of tensors.

Shapes: B requests, S context length, T SID levels, F static features, C features, N trending ads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from adbeam.model.batch import ContextBatch
from adbeam.model.features import ContextRow


def collate(rows: Sequence[ContextRow]) -> ContextBatch:
    """The rows as one batch."""
    parts: dict[str, list[Any]] = {f.name: [getattr(row, f.name) for row in rows] for f in fields(ContextRow)}
    static, code, feature, *trend = (None if part[0] is None else np.stack(part) for part in parts.values())
    assert static is not None and code is not None and feature is not None
    return stack(static, code, feature, *trend)


def stack(
    static_BF: np.ndarray,
    code_BST: np.ndarray,
    feature_BSC: np.ndarray,
    trend_code_BNT: np.ndarray | None = None,
    trend_feature_BNC: np.ndarray | None = None,
) -> ContextBatch:
    """A batch of contexts whose arrays are stacked already, as a data loader delivers them."""
    code = torch.from_numpy(code_BST.astype(np.int64))
    mask = code[..., 0] >= 0
    mask[:, 0] = True
    static = torch.from_numpy(static_BF.astype(np.int64))
    feature = torch.from_numpy(feature_BSC.astype(np.int64))
    if trend_code_BNT is None or trend_feature_BNC is None:
        return ContextBatch(static, code, feature, mask)
    trend_code, trend_feature = (torch.from_numpy(x.astype(np.int64)) for x in (trend_code_BNT, trend_feature_BNC))
    return ContextBatch(static, code, feature, mask, trend_code, trend_feature)
