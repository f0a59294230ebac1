"""CUDA graphs: a function over tensors that stay where they are is recorded once and replayed from then on.

On a GPU a recording is a CUDA graph: one launch in place of one for each operation, which is what small batches spend
their time on. Where recording fails, or a replay differs from the function itself, the log says so and the functions
run as they are from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Function = Callable[[], Tensor]
Record = Callable[[Function], Function]
"""Turns a function into its replay, which gives the answer at the same place every time. May run the function."""

TOLERANCE = 0.02


@dataclass(frozen=True)
class Recording:
    """One recorded function and the inputs it reads; their place stays."""

    inputs: Sequence[Tensor]
    replay: Function

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """The answer for other inputs of the same shapes. The next run may write over it."""
        for place, given in zip(self.inputs, inputs, strict=True):
            if place.data_ptr() != given.data_ptr():
                place.copy_(given)
        return self.replay()


class Recordings:
    """The recordings of one engine, by key. A function is recorded when its key comes for the second time."""

    def __init__(self, record: Record, memory: Callable[[], Hashable], most: int = 1024) -> None:
        """What functions read beside their inputs keeps its place while `memory()` is the same."""
        self._record, self._memory_now, self._most = record, memory, most
        self._kept: dict[Hashable, Recording] = {}
        self._seen: set[Hashable] = set()
        self._memory: Hashable = None
        self._said: set[str] = set()
        self._broken = False

    def __len__(self) -> int:
        return len(self._kept)

    def run(self, key: Hashable, function: Function, inputs: Sequence[Tensor]) -> Tensor:
        """The answer of `function`, which reads `inputs` (it may write over them) and memory. Everything else that it
        depends on is in `key`."""
        if self._broken:
            return function()
        self._forget_what_moved()
        recording = self._kept.get(key)
        if recording is not None:
            return recording.run(inputs)
        if key not in self._seen:
            if len(self._seen) >= 16 * self._most:
                self._seen.clear()
            self._seen.add(key)
            return function()
        if len(self._kept) >= self._most:
            self._say(f"{self._most} recordings are kept; other shapes run without")
            return function()
        return self._recorded(key, function, inputs)

    def _forget_what_moved(self) -> None:
        memory = self._memory_now()
        if memory != self._memory:
            self._kept.clear()
            self._memory = memory

    def _recorded(self, key: Hashable, function: Function, inputs: Sequence[Tensor]) -> Tensor:
        """Run, record, replay and compare; the answer is the replay's."""
        before = [given.clone() for given in inputs]
        expected = function().clone()
        self._forget_what_moved()
        try:
            recording = Recording(inputs, self._record(function))
            answer = recording.run(before)
            if not torch.allclose(answer.float(), expected.float(), TOLERANCE, TOLERANCE, equal_nan=True):
                difference = float((answer.float() - expected.float()).abs().max())
                raise RuntimeError(f"a replay differs from what it recorded by {difference:.3g}")
        except RuntimeError as error:
            self._broken = True
            self._kept.clear()
            self._say(f"decoding goes on without CUDA graphs: {str(error).splitlines()[0]}")
            for place, given in zip(inputs, before, strict=True):
                place.copy_(given)
            return function()
        self._kept[key] = recording
        return answer

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            logger.warning(message)


class CudaGraphs:
    """Records CUDA graphs; all of them share one pool of memory, so only one may run at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._first: torch.cuda.CUDAGraph | None = None
        """Kept for good: a pool ends with the last of its graphs."""

    def __call__(self, function: Function) -> Function:
        """Warm up on a stream of its own, as capturing asks for, then capture there. The answer of `function` must lie
        in memory that it did not make: other graphs of the pool may write over that."""
        stream, current = self._stream, torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(2):
                function()
        current.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        capture = torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local")
        with torch.cuda.stream(current), capture:  # the outer one comes back to this stream where capturing fails
            answer = function()
        self._first = self._first or graph

        def replay() -> Tensor:
            graph.replay()
            return answer

        return replay
