"""Ray for the preparation: the one that runs, the cluster of the job, or a local one for as long as it is needed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray is up inside the block; a local Ray that was started here is stopped after it.

    Progress bars show on a terminal only.
    """
    import ray
    from ray.data import DataContext

    started = not ray.is_initialized()
    if started and os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    elif started:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context = DataContext.get_current()
    before = context.enable_progress_bars
    context.enable_progress_bars = sys.stderr.isatty()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        yield
    finally:
        context.enable_progress_bars = before
        if started:
            ray.shutdown()


def run_each(count: int, task: Callable[[int], dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    """Run task(0) ... task(count - 1) as a Ray Data pipeline; yields their small results as they come."""
    import json

    import ray

    def run_batch(batch: dict[str, Any]) -> dict[str, Any]:
        return {"result": [json.dumps(task(int(number))) for number in batch["id"]]}

    run_batch.__name__ = name
    numbers = ray.data.range(count, override_num_blocks=count)
    for row in numbers.map_batches(run_batch, batch_size=1).iter_rows():
        yield json.loads(row["result"])


def run_once(task: Callable[..., Any], *arguments: Any) -> Any:
    """Run one task on a worker and return its result."""
    import ray

    return ray.get(ray.remote(task).remote(*arguments))
