"""Ray Data as the tokens room uses it: pools of one-core actors, batches of Arrow tables, results in order."""

from __future__ import annotations

from typing import Any

BATCH_ROWS = 16_384


def in_order() -> Any:
    """The module ray.data, told to keep the order of its input."""
    import ray.data

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    return ray.data


def actor_pool(workers: int, arguments: tuple[Any, ...], batch_rows: int = BATCH_ROWS) -> dict[str, Any]:
    """Arguments of map_batches: `workers` actors of one core, each with the fitted object."""
    return {
        "fn_constructor_args": arguments,
        "batch_format": "pyarrow",
        "batch_size": batch_rows,
        "concurrency": workers,
        "num_cpus": 1,
    }
