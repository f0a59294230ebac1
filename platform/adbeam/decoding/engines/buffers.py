"""Memory that a search writes into, kept from batch to batch.

Fresh tensors of a megabyte cost more in page faults than the arithmetic that fills them. Shapes: R rows, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Buffers:
    """Named buffers of one engine. What `take` returned holds until the same name is taken again."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.moves = 0
        """How often a buffer has come to lie elsewhere."""
        self._flat: dict[str, Tensor] = {}
        self._views: dict[tuple[str, int, int], Tensor] = {}

    def take(self, name: str, rows: int, columns: int) -> Tensor:
        """[rows, columns], contiguous, with whatever was in it."""
        view = self._views.get((name, rows, columns))
        return self._view(name, rows, columns) if view is None else view

    def keep(self, name: str, x: Tensor) -> Tensor:
        """A copy of `x` in a buffer, in its shape."""
        return self.take(name, 1, x.numel()).view(x.shape).copy_(x)

    def _view(self, name: str, rows: int, columns: int) -> Tensor:
        flat = self._flat.get(name)
        if flat is None or len(flat) < rows * columns:
            flat = self._flat[name] = torch.empty(rows * columns, dtype=self.dtype, device=self.device)
            self._views.clear()
            self.moves += 1
        if len(self._views) > 1000:
            self._views.clear()
        view = self._views[name, rows, columns] = flat[: rows * columns].view(rows, columns)
        return view


class StepStore:
    """Queries, keys and values that the tail layers wrote at every step, row after row: [layer][row, 3D].

    A step appends its rows and nobody reorders them; a beam finds its own past by the row numbers of its ancestors.
    """

    def __init__(self, layers: int, columns: int, dtype: torch.dtype, device: torch.device) -> None:
        self._rows = [torch.empty(0, columns, dtype=dtype, device=device) for _ in range(layers)]
        self.used = 0
        self.moves = 0
        """How often the rows have come to lie elsewhere."""

    def clear(self) -> None:
        """Begin a batch."""
        self.used = 0

    def append(self, rows: int) -> int:
        """Make room for the rows of one step; returns the first."""
        first, self.used = self.used, self.used + rows
        if self._rows and self.used > len(self._rows[0]):
            self._grow(first, max(self.used, 2 * len(self._rows[0])))
        return first

    def layer(self, index: int) -> Tensor:
        """[rows, 3D] of one tail layer."""
        return self._rows[index]

    def _grow(self, used: int, size: int) -> None:
        self.moves += 1
        for place, old in enumerate(self._rows):
            new = old.new_empty(size, old.shape[1])
            new[:used] = old[:used]
            self._rows[place] = new
