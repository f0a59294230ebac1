"""Allow masks that leave little: their allowed leaves are listed, and a prefix is asked for its part of the list.

Shapes: M masks, N items, R rows, F fan-out, B requests, W beams of a request.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.open_leaves import OpenLeaves
from adbeam.decoding.trie_tensors import TrieTensors


class OpenFew(OpenLeaves):
    """The allowed leaves of all masks in one ordered list: mask by mask, leaf by leaf."""

    def __init__(self, requests: Sequence[int], allows: Sequence[NDArray[np.bool_]], tensors: TrieTensors) -> None:
        super().__init__(requests, allows, tensors)
        self._span = self._trie.levels[-1].base + 1
        keys = [mask * self._span + self._leaves(allow_N) for mask, allow_N in enumerate(allows)]
        self._key_n = np.concatenate(keys)
        self._keys = torch.from_numpy(self._key_n).to(tensors.device)

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
        offset_R = mask_R.numpy(force=True) * self._span
        edges = (self.tensors.base_leaf(level, edge).numpy(force=True) for edge in (start_R, start_R + length_R))
        low_R, high_R = (np.searchsorted(self._key_n, edge + offset_R) for edge in edges)
        row_n = np.repeat(np.arange(len(low_R)), high_R - low_R)
        place_n = np.arange(len(row_n)) + (low_R - np.cumsum(high_R - low_R) + high_R - low_R)[row_n]
        entry_n = self._key_n[place_n] - offset_R[row_n]
        for t in range(self._trie.depth - 1, level, -1):
            entry_n = self._trie.base_parents(t, entry_n)
        open_RF = np.zeros((len(low_R), fan_out), bool)
        open_RF[row_n, entry_n - start_R.numpy(force=True)[row_n]] = True
        return torch.from_numpy(open_RF).to(start_R.device)
