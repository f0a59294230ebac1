"""Ray Data as the tokens room uses it: pools of one-core actors, batches of Arrow tables, results in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BATCH_ROWS = 16_384
BLOCK_BYTES = 32 << 20
"""Ray Data plans memory by the largest blocks that a task may make: with its own 128 MiB a small object store holds one
task at a time, and all actors but one stand idle."""
BLOCKS_IN_FLIGHT = 3
"""For each actor: one being read, one encoded, one written. Without a bound Ray Data fills half of the object
store, so that a large catalogue needs more memory than a small one and is not encoded faster."""


@contextmanager
def in_order(workers: int) -> Iterator[Any]:
    """The module ray.data; a dataset that is made inside keeps the order of its input and holds what `workers` actors
    need."""
    import ray.data

    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    held = max(2, workers) * BLOCKS_IN_FLIGHT * BLOCK_BYTES
    context.execution_options.resource_limits = ray.data.ExecutionResources.for_limits(object_store_memory=held)
    context.target_max_block_size = BLOCK_BYTES
    with ray.data.DataContext.current(context):
        yield ray.data


def actor_pool(workers: int, arguments: tuple[Any, ...], batch_rows: int = BATCH_ROWS) -> dict[str, Any]:
    """Arguments of map_batches: `workers` actors of one core, each with the fitted object."""
    from ray.data import ActorPoolStrategy

    return {
        "fn_constructor_args": arguments,
        "batch_format": "pyarrow",
        "batch_size": batch_rows,
        "compute": ActorPoolStrategy(size=workers),
        "num_cpus": 1,
    }
