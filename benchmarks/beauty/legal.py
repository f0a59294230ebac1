"""What a model says of codes that exist: logits of dead children masked, and log p of a path with and without them.

`LegalEngine` is a decoder's step model that normalises over the live children of each prefix instead of the whole
codebook, by masking the others; nothing is trained. Shapes: B requests, R rows, T levels, V codebook, N items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from adbeam.decoding.engines.lazyar import LazyAREngine
from adbeam.decoding.layout import Layout
from adbeam.features.batch import ContextBatch
from adbeam.model.lazyar import LazyAR


class LiveChildren:
    """Which codes follow a prefix of live semantic IDs: a dense table a level, for catalogues of benchmarks."""

    def __init__(self, sids_NT: np.ndarray, codebooks: tuple[int, ...]) -> None:
        self.codebooks = codebooks
        self.tables: list[Tensor] = []
        place_N = np.zeros(len(sids_NT), np.int64)
        prefixes = 1
        for level, size in enumerate(codebooks):
            live = torch.zeros(prefixes, size, dtype=torch.bool)
            live[torch.from_numpy(place_N), torch.from_numpy(sids_NT[:, level].astype(np.int64))] = True
            self.tables.append(live)
            place_N = place_N * size + sids_NT[:, level]
            prefixes *= size

    def of(self, path_Rt: Tensor) -> Tensor:
        """bool [R, V] of the level after the codes `path_Rt` [R, t]."""
        place_R = torch.zeros(len(path_Rt), dtype=torch.int64)
        for code_R, size in zip(path_Rt.unbind(1), self.codebooks, strict=False):
            place_R = place_R * size + code_R
        return self.tables[path_Rt.shape[1]][place_R]


class LegalEngine:
    """LazyAREngine whose logits of dead codes are minus infinity."""

    multiple = 1

    def __init__(self, model: LazyAR, live: LiveChildren) -> None:
        self.inner, self.live = LazyAREngine(model), live
        self.config, self.device = self.inner.config, self.inner.device
        self.path_Rt = torch.zeros(0, 0, dtype=torch.int64)

    def begin(self, context: ContextBatch) -> Any:
        """As the engine."""
        return self.inner.begin(context)

    def step(self, state: Any, level: int, code_R: Tensor | None, parent_R: Tensor | None, layout: Layout) -> Tensor:
        """As the engine; keeps the rows' paths."""
        if code_R is None or parent_R is None:
            self.path_Rt = torch.zeros(layout.rows, 0, dtype=torch.int64)
        else:
            self.path_Rt = torch.cat([self.path_Rt[parent_R], code_R[:, None]], dim=1)
        return self.inner.step(state, level, code_R, parent_R, layout)

    def logits(self, state: Any, level: int, h_RD: Tensor) -> Tensor:
        """float32 [R, V]."""
        logits_RV = self.inner.logits(state, level, h_RD)
        return logits_RV.masked_fill(~self.live.of(self.path_Rt), float("-inf"))

    def beside(self) -> LegalEngine:
        """Another one for another thread."""
        return LegalEngine(self.inner.model, self.live)


@torch.inference_mode()
def path_nll(model: LazyAR, context: ContextBatch, sid_BT: Tensor, live: LiveChildren) -> tuple[Tensor, Tensor]:
    """(negative log-likelihood of every code of a request's own path [B, T] in nats over the whole codebook, the same
    over live children)."""
    state = model.encode(context)
    trunk_BTD = model.trunk(state)
    cache, full, legal = None, [], []
    for level in range(sid_BT.shape[1]):
        code_B1 = sid_BT[:, level - 1 : level] if level else None
        h_B1D, cache = model.step(level, trunk_BTD, state, code_B1, None, cache)
        path_BQt = sid_BT[:, None, :level]
        logits_BV = (model.head(level, h_B1D) + model.prior(level, state, path_BQt))[:, 0].float()
        masked_BV = logits_BV.masked_fill(~live.of(sid_BT[:, :level]), float("-inf"))
        target_B1 = sid_BT[:, level : level + 1]
        full.append(-logits_BV.log_softmax(-1).gather(1, target_B1)[:, 0])
        legal.append(-masked_BV.log_softmax(-1).gather(1, target_B1)[:, 0])
    return torch.stack(full, 1), torch.stack(legal, 1)
