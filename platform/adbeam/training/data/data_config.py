"""Data sharding: how Ray Train shares the requests among workers, whole lanes each, the same batches for any number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray.train import DataConfig

from adbeam.training.data.stream import RequestStream


class RequestDataConfig(DataConfig):
    """Gives worker `rank` its lanes of every RequestStream; each worker runs its own Ray Data pipeline over them."""

    def configure(  # type: ignore[override]
        self,
        datasets: dict[str, RequestStream],
        world_size: int,
        worker_handles: Any,
        worker_node_ids: Any,
        **kwargs: Any,
    ) -> list[dict[str, RequestStream]]:
        """One mapping of streams a worker."""
        return [
            {name: replace(stream, rank=rank, world=world_size) for name, stream in datasets.items()}
            for rank in range(world_size)
        ]
