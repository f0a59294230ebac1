"""LazyAR with its trunk and its tail recorded (CUDA graphs): the same arithmetic, launched in one go.

What a recording depends on is made to repeat: contexts keep their full length, batches and beams are rounded up to
`multiple`, keys and values are copied to one place. The choice of codes follows the catalogue and is not recorded, and
of a batch of several schedules the trunk alone is.

Shapes: B requests, R rows, T levels, D width.
"""

from __future__ import annotations

from torch import Tensor

from adbeam.decoding.engines.cuda_graphs import Record, Recordings
from adbeam.decoding.engines.lazyar import LazyAREngine, LazyARState
from adbeam.decoding.engines.precision import Precision
from adbeam.decoding.layout import Layout
from adbeam.model.lazyar import LazyAR


class RecordedEngine(LazyAREngine):
    """A LazyAREngine that replays."""

    multiple = 16

    def __init__(self, model: LazyAR, record: Record, precision: Precision = "float32", compiled: bool = False) -> None:
        """`record` turns a function into its replay: on a GPU recordings.CudaGraphs."""
        self._record = record
        super().__init__(model, precision, compiled)

    def _take_memory(self) -> None:
        super()._take_memory()
        buffers, store = self._buffers, self._store
        self.recordings = Recordings(self._record, lambda: (buffers.moves, store.moves))

    def _trunk(self, state: LazyARState) -> Tensor:
        tied = state.value_BLGSd is state.key_BLGSd
        state.key_BLGSd = self._buffers.keep("key", state.key_BLGSd)
        state.value_BLGSd = state.key_BLGSd if tied else self._buffers.keep("value", state.value_BLGSd)
        run = super()._trunk
        key = ("trunk", len(state.trunk_BTD))
        return self.recordings.run(key, lambda: self._buffers.keep("trunk", run(state)), _inputs(state))

    def _tail(self, x_RD: Tensor, row_tR: Tensor, state: LazyARState, layout: Layout) -> Tensor:
        run = super()._tail
        if len(layout.groups) > 1:
            return run(x_RD, row_tR, state, layout)
        x_RD, group = self._buffers.keep("x", x_RD), layout.groups[0]
        key = ("tail", group.requests, group.width, len(row_tR), self._store.used)
        inputs = [x_RD, row_tR, *_inputs(state)]

        def tail() -> Tensor:
            return self._buffers.keep("h", run(x_RD, row_tR, state, layout))

        return self.recordings.run(key, tail, inputs)


def _inputs(state: LazyARState) -> list[Tensor]:
    """What a batch brings beside its keys and values."""
    return [part for part in (state.bias_BS, state.age_BS) if part is not None]
