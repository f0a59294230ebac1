"""Task runners of the preparation: Ray, or this very process for a log too small to start Ray for."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from adbeam.errors import UserError
from adbeam.ray_data.progress import told

Task = Callable[[int], dict[str, Any]]


class Runner(Protocol):
    """Runs tasks that answer with small mappings; rows never pass through it."""

    def once(self, task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run one task."""

    def each(self, count: int, task: Task, name: str) -> Iterator[dict[str, Any]]:
        """Run task(0) ... task(count - 1); yields their answers as they come."""


class InProcessRunner:
    """One task after the other, here."""

    def once(self, task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return task()

    def each(self, count: int, task: Task, name: str) -> Iterator[dict[str, Any]]:
        return (task(number) for number in range(count))


class RayRunner:
    """Ray Data over the cluster that `ray_runner` found or started."""

    def once(self, task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        import ray

        return ray.get(ray.remote(_call).remote(task))

    def each(self, count: int, task: Task, name: str) -> Iterator[dict[str, Any]]:
        import ray

        def run_batch(batch: dict[str, Any]) -> dict[str, Any]:
            return {"answer": [json.dumps(task(int(number))) for number in batch["id"]]}

        run_batch.__name__ = name
        numbers = ray.data.range(count, override_num_blocks=count)
        rows = numbers.map_batches(run_batch, batch_size=1).iter_rows()
        for row in told(rows, count, name.replace("_", " ")):
            yield json.loads(row["answer"])


def answered(task: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The task's result, or {"problem": text} for a UserError, which needs no stack trace of a worker."""
    try:
        return task(*arguments)
    except UserError as error:
        return {"problem": str(error)}


def succeeded(answer: dict[str, Any]) -> dict[str, Any]:
    """What `answered` brought; raises its UserError here."""
    if "problem" in answer:
        raise UserError(answer["problem"])
    return answer


def _call(task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return task()


@contextmanager
def ray_runner() -> Iterator[Runner]:
    """Ray as it runs already, the cluster of the job, or a local one that is stopped afterwards.

    Progress bars show on a terminal only.
    """
    import ray
    from ray.data import DataContext

    started = not ray.is_initialized()
    if started and os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    elif started:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, logger.level
    context.enable_progress_bars = sys.stderr.isatty()
    logger.setLevel(logging.ERROR)
    try:
        yield RayRunner()
    finally:
        context.enable_progress_bars = before[0]
        logger.setLevel(before[1])
        if started:
            ray.shutdown()
