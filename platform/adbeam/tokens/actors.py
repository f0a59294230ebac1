"""Ray Data as the tokens room uses it: pools of one-core actors, batches of Arrow tables, results in order."""

from __future__ import annotations

from typing import Any

BATCH_ROWS = 16_384
BLOCK_BYTES = 32 << 20
"""Ray Data plans memory by the largest blocks that a task may make: with its own 128 MiB a small object store holds one
task at a time, and all actors but one stand idle."""


def in_order() -> Any:
    """The module ray.data, told to keep the order of its input."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.target_max_block_size = BLOCK_BYTES
    return ray.data


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
