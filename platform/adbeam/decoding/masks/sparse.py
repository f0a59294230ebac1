"""Allow masks that leave little: their allowed leaves are listed, and a prefix is asked for its part of the list.

Shapes: M masks, N items, R rows, F fan-out, B requests, W beams of a request.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.masks.base import OpenLeaves, runs
from adbeam.decoding.trie.tensors import TrieTensors


class OpenFew(OpenLeaves):
    """The allowed leaves of all masks in one ordered list: mask by mask, leaf by leaf."""

    def __init__(self, requests: Sequence[int], allows: Sequence[NDArray[np.bool_]], tensors: TrieTensors) -> None:
        super().__init__(requests, allows, tensors)
        self._span = self._trie.levels[-1].base + 1
        keys = [mask * self._span + self._leaves(allow_N) for mask, allow_N in enumerate(allows)]
        self._keys = torch.from_numpy(np.concatenate(keys)).to(tensors.device)

    def _leaves(self, allow_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        """In order, the leaves of the build that hold an allowed live item."""
        leaf = self._trie.leaf_N[np.flatnonzero(allow_N)]
        leaf = np.sort(leaf[(leaf >= 0) & (leaf < self._span - 1)])
        return leaf[np.diff(leaf, prepend=-1) > 0].astype(np.int64)

    def at_least(self, level: int, entry_BW: Tensor, mask_B: Tensor, few: int, enough: int) -> Tensor:
        """int64 [B, W], how many open leaves lie below prefixes of `level`."""
        mask = mask_B.repeat_interleave(entry_BW.shape[1])
        return self.open_leaves(level, entry_BW.flatten(), mask).view(entry_BW.shape)

    def _count(self, low: Tensor, high: Tensor, mask: Tensor) -> Tensor:
        offset = mask * self._span
        return torch.searchsorted(self._keys, high + offset) - torch.searchsorted(self._keys, low + offset)

    def _below(self, level: int, start_R: Tensor, length_R: Tensor, mask_R: Tensor, fan_out: int) -> Tensor:
        """Each allowed leaf below the rows opens the child above it."""
        offset_R = mask_R * self._span
        edges = (self.tensors.base_leaf(level, edge_R) + offset_R for edge_R in (start_R, start_R + length_R))
        low_R, high_R = (torch.searchsorted(self._keys, edge_R) for edge_R in edges)
        row = torch.arange(len(start_R), device=start_R.device).repeat_interleave(high_R - low_R)
        entry_n = (self._keys[runs(low_R, high_R)] - offset_R[row]).numpy(force=True)
        for t in range(self._trie.depth - 1, level, -1):
            entry_n = self._trie.base_parents(t, entry_n)
        open_RF = torch.zeros(len(start_R), fan_out, dtype=torch.bool, device=start_R.device)
        open_RF[row, torch.from_numpy(entry_n).to(start_R.device) - start_R[row]] = True
        return open_RF
