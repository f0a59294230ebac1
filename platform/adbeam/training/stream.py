"""The rows of each step as a stream: through Ray Data for a worker of a cluster, through a thread in one process.

Both give the same rows in the same order, so a run can move between them. Each worker has its own Ray Data pipeline
over the windows of its lanes; a window is one task. Knows no torch: data tasks start fast.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from adbeam.training.order import RequestOrder, RowFiles, Window

PREFETCHED_STEPS = 4


@dataclass(frozen=True)
class RequestStream:
    """What one worker reads: `get_dataset_shard` hands it out."""

    files: RowFiles
    order: RequestOrder
    rank: int
    world: int
    use_ray: bool
    task_cpus: float = 0.25

    def tables(self, first_step: int, end_step: int) -> Iterator[tuple[int, pa.Table]]:
        """(step, this worker's rows of the step) for the steps [first_step, end_step)."""
        windows = list(self.order.windows(first_step, end_step))
        if not windows:
            return
        skipped = first_step % self.order.steps_per_epoch - windows[0].first
        batches = self._from_ray_data(windows) if self.use_ray else self._from_thread(windows)
        for step, table in enumerate(batches, start=first_step - skipped):
            if step >= end_step:
                return
            if step >= first_step:
                yield step, table

    @property
    def rows_per_step(self) -> int:
        """Rows of this worker in one step."""
        return self.order.rows_per_lane * len(self.order.lanes_of(self.rank, self.world))

    def read(self, window: Window) -> pa.Table:
        """This worker's rows of one window, step by step."""
        return self.files.take(self.order.rank_rows(window, self.rank, self.world))

    def _from_ray_data(self, windows: list[Window]) -> Iterator[pa.Table]:
        """One data task a window, one at a time and in order, a window ahead of the training."""
        import ray

        dataset: Any = ray.data.range(len(windows), override_num_blocks=len(windows))
        dataset = dataset.map_batches(
            _read_window,
            batch_size=None,
            batch_format="numpy",
            fn_kwargs={"stream": self, "windows": windows},
            num_cpus=self.task_cpus,
            compute=ray.data.TaskPoolStrategy(size=1),
        )
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        iterator = dataset.iterator()
        yield from iterator.iter_batches(
            batch_size=self.rows_per_step, batch_format="pyarrow", prefetch_batches=PREFETCHED_STEPS
        )

    def _from_thread(self, windows: list[Window]) -> Iterator[pa.Table]:
        for table in _ahead(self.read(window) for window in windows):
            for start in range(0, len(table), self.rows_per_step):
                yield table.slice(start, self.rows_per_step)


def _read_window(batch: dict[str, np.ndarray], stream: RequestStream, windows: list[Window]) -> pa.Table:
    return pa.concat_tables([stream.read(windows[number]) for number in batch["id"]])


def _ahead(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The tables, the next one being read in a thread meanwhile."""
    ready: queue.Queue[Any] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def read() -> None:
        try:
            for table in tables:
                ready.put(table)
                if stopped.is_set():
                    return
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        if not ready.empty():
            ready.get_nowait()  # makes room, so that the thread sees the stop
