"""The rows of each step as a stream: through Ray Data for a worker of a cluster, through a thread in one process.

Both give the same rows in the same order, so a run can move between them. Each worker has its own Ray Data pipeline
over the windows of its lanes; a window is one task. Knows no torch: data tasks start fast.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from adbeam.training.data.order import RequestOrder, RowFiles
from adbeam.training.data.rows import RowFormat

PREFETCHED_STEPS = 4
LONGEST_PIPELINE = 256
"""Windows of one Ray Data pipeline, which plans all its tasks before the first runs."""


@dataclass(frozen=True)
class RequestStream:
    """What one worker reads: `get_dataset_shard` hands it out."""

    files: RowFiles
    order: RequestOrder
    rank: int
    world: int
    use_ray: bool
    task_cpus: float = 0.25
    buckets: RowFormat | None = None
    """With the rows' format, rows of like size share a step (RequestOrder.bucketed)."""
    lists: RequestStream | None = None
    """Candidate lists that join each step; their epochs are their own."""

    def steps(self, first_step: int, end_step: int) -> Iterator[tuple[int, pa.Table, pa.Table | None]]:
        """(step, this worker's rows, its lists or None) for the steps [first_step, end_step)."""
        if self.lists is None:
            yield from ((step, table, None) for step, table in self.tables(first_step, end_step))
            return
        lists = replace(self.lists, rank=self.rank, world=self.world)
        both = zip(self.tables(first_step, end_step), lists.tables(first_step, end_step), strict=True)
        yield from ((step, table, part) for (step, table), (_, part) in both)

    def tables(self, first_step: int, end_step: int) -> Iterator[tuple[int, pa.Table]]:
        """(step, this worker's rows of the step) for the steps [first_step, end_step)."""
        if first_step >= end_step:
            return
        numbers = range(self.order.window_of(first_step), self.order.window_of(end_step - 1) + 1)
        started = self.order.window(numbers[0])
        batches = self._from_ray_data(numbers) if self.use_ray else self._from_thread(numbers)
        begin = started.epoch * self.order.steps_per_epoch + started.first
        for step, table in enumerate(batches, start=begin):
            if step >= end_step:
                return
            if step >= first_step:
                yield step, table

    @property
    def rows_per_step(self) -> int:
        """Rows of this worker in one step."""
        return self.order.rows_per_lane * len(self.order.lanes_of(self.rank, self.world))

    def read(self, number: int) -> pa.Table:
        """This worker's rows of one window, step by step."""
        window = self.order.window(number)
        table = self.files.take(self.order.rank_rows(window, self.rank, self.world))
        if self.buckets is None:
            return table
        return table.take(pa.array(self.order.bucketed(window, self.buckets.sizes(table))))

    def _from_ray_data(self, numbers: range) -> Iterator[pa.Table]:
        """Ray Data pipelines of up to LONGEST_PIPELINE windows; one task a window, in order, ahead of the training."""
        import ray

        for start in range(numbers.start, numbers.stop, LONGEST_PIPELINE):
            count = min(LONGEST_PIPELINE, numbers.stop - start)
            dataset: Any = ray.data.range(count, override_num_blocks=count).map_batches(
                _read_window,  # type: ignore[arg-type]
                batch_size=None,
                batch_format="numpy",
                fn_kwargs={"stream": self, "start": start},
                num_cpus=self.task_cpus,
                compute=ray.data.TaskPoolStrategy(size=1),
            )
            dataset.context.execution_options.preserve_order = True
            dataset.context.enable_progress_bars = False
            yield from dataset.iterator().iter_batches(
                batch_size=self.rows_per_step, batch_format="pyarrow", prefetch_batches=PREFETCHED_STEPS
            )

    def _from_thread(self, numbers: range) -> Iterator[pa.Table]:
        for table in _ahead(self.read(number) for number in numbers):
            for start in range(0, len(table), self.rows_per_step):
                yield table.slice(start, self.rows_per_step)


def _read_window(batch: dict[str, np.ndarray], stream: RequestStream, start: int) -> pa.Table:
    return pa.concat_tables([stream.read(start + int(number)) for number in batch["id"]])


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
