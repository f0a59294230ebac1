"""Following the bundle in force: a new one is verified, loaded and tried beside the old one, then swapped in.

No request waits for it. A bundle that fails leaves the old one serving, and is not tried again until the pointer moves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from adbeam.bundle import resolve
from adbeam.serving.engine import LoadedModel
from adbeam.serving.metrics import Recorder

if TYPE_CHECKING:
    from adbeam.serving.service import RecommenderService

logger = logging.getLogger("ray.serve")


class BundleFollower:
    """Keeps a service on the bundle that a path names. Used from the event loop only."""

    def __init__(self, service: RecommenderService, loader: Callable[..., LoadedModel], metrics: Recorder) -> None:
        self._service, self._loader, self._metrics = service, loader, metrics
        self._path = service.config.bundle
        self._refused: Path | None = None
        self._swapping = asyncio.Lock()

    async def follow(self, path: Path) -> bool:
        """Follow `path` from now on; returns whether its bundle is in force."""
        self._path, self._refused = path, None
        return await self.update()

    async def watch(self, every_seconds: float) -> None:
        """Look at the pointer again and again."""
        while True:
            await asyncio.sleep(every_seconds)
            await self.update()

    async def update(self) -> bool:
        """Swap to the bundle in force if it is another one; returns whether it serves now."""
        async with self._swapping:
            try:
                folder = await asyncio.to_thread(resolve, self._path)
            except Exception as error:
                logger.warning("the bundle pointer cannot be read, %s stays: %s", self._service.model.version, error)
                return False
            if folder.name == self._service.model.version:
                return True
            return folder != self._refused and await self._swap(folder)

    async def _swap(self, folder: Path) -> bool:
        service = self._service
        try:
            model = await asyncio.to_thread(
                self._loader, folder, service.config, service.policy, service.store, self._metrics
            )
        except Exception as error:
            logger.error("bundle %s is refused, %s stays in force: %s", folder, service.model.version, error)
            self._metrics.add("adbeam_bundle_swaps", result="refused")
            self._refused = folder
            return False
        logger.info("bundle %s replaces %s", model.version, service.model.version)
        service.take_model(model)
        self._metrics.add("adbeam_bundle_swaps", result="taken")
        return True
