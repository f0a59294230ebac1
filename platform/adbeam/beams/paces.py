"""The paces of a ladder's rungs, each made when it is first asked for: a plan looks at two or three of them."""

from __future__ import annotations

from collections.abc import Callable

from adbeam.beams.backlog import Pace


class Paces:
    """One pace a rung, by `make(rung)`."""

    def __init__(self, rungs: int, make: Callable[[int], Pace]) -> None:
        self._rungs, self._make = rungs, make
        self._made: dict[int, Pace] = {}

    def __len__(self) -> int:
        return self._rungs

    def __getitem__(self, rung: int) -> Pace:
        pace = self._made.get(rung)
        if pace is None:
            pace = self._made[rung] = self._make(rung)
        return pace

    def slower(self, factor: float) -> Paces:
        """The same paces with every time multiplied by `factor`."""
        return Paces(self._rungs, lambda rung: self[rung].slower(factor))
