"""Preemption: what tells a run that its time is up, a node that will be taken away or SIGTERM at the driver.

Rank 0's clock says when all workers ask together; a run that is told saves a checkpoint at once. A lost node then
costs the steps since, not an interval, and the driver's SIGTERM ends the run so that the same command goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

ASK_SECONDS = 5.0

Stop = Callable[[], bool]
"""Whether the driver wants the run to end; rank 0 asks."""


def never() -> bool:
    """A driver that never stops a run."""
    return False


@dataclass(frozen=True)
class Notice:
    """What all workers heard."""

    node: bool
    """A node of the run will be taken away."""
    stop: bool
    """The driver wants to end."""


class NoticeBoard:
    """One worker's side."""

    def __init__(self, stop: Stop, rank: int, world: int) -> None:
        self._stop, self._rank, self._world = stop, rank, world
        self._asked = time.monotonic()
        self._node_known = False

    def due(self) -> bool:
        """Whether rank 0 wants everybody to ask after this step."""
        return self._rank == 0 and time.monotonic() - self._asked >= ASK_SECONDS

    def ask(self) -> Notice:
        """Every worker must call; a node's notice is told once."""
        import ray.train

        self._asked = time.monotonic()
        node = ray.train.get_preemption_info() is not None
        flags = torch.tensor([float(node), float(self._rank == 0 and self._stop())])
        if self._world > 1:
            torch.distributed.all_reduce(flags)
        node, stop = (flag > 0 for flag in flags.tolist())
        fresh = node and not self._node_known
        self._node_known = self._node_known or node
        return Notice(fresh, stop)
