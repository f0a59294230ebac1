"""Hot swap and roll-out: a new bundle in force is verified, loaded and tried beside the old one, then swapped in.

No request waits for it. A bundle that fails leaves the old one serving, and is not tried again until the pointer moves.
A replica that starts while the pointer names such a bundle takes what its neighbours still serve: the one before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from adbeam.beams.config import BeamPolicyConfig
from adbeam.bundle import earlier, resolve
from adbeam.declared.agreement import OtherFeatures
from adbeam.errors import UserError
from adbeam.recorder import Recorder
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.loaded_model import LoadedModel, OtherCurrency
from adbeam.serving.stores.store import HistoryStore
from adbeam.targeting.compiled.reading import UndeclaredFeatures

if TYPE_CHECKING:
    from adbeam.serving.service import RecommenderService

logger = logging.getLogger("ray.serve")


def first_model(
    loader: Callable[..., LoadedModel],
    config: ServingConfig,
    policy: BeamPolicyConfig,
    store: HistoryStore,
    metrics: Recorder,
) -> LoadedModel:
    """The model of the bundle in force or, where that fails its checks, of the newest one before it that passes.

    Raises the UserError of the bundle in force when there is none, or when no bundle could mend it.
    """
    try:
        return loader(config.bundle, config, policy, store, metrics)
    except (OtherCurrency, OtherFeatures, UndeclaredFeatures):
        raise
    except UserError as refusal:
        for folder in earlier(config.bundle):
            try:
                model = loader(folder, config, policy, store, metrics)
            except UserError as error:
                logger.error("bundle %s is refused as well: %s", folder, error)
                continue
            logger.error("the bundle in force is refused, %s is served instead: %s", folder.name, refusal)
            metrics.add("adbeam_bundle_swaps", result="refused")
            return model
        raise


class BundleFollower:
    """Keeps a service on the bundle that a path names. Used from the event loop only."""

    def __init__(self, service: RecommenderService, loader: Callable[..., LoadedModel], metrics: Recorder) -> None:
        self._service, self._loader, self._metrics = service, loader, metrics
        self._path = service.config.bundle
        self._refused: Path | None = None
        self._taken: Path | None = None
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
            if folder == self._taken or folder.name == self._service.model.version:
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
        self._taken = folder
        service.take_model(model)
        self._metrics.add("adbeam_bundle_swaps", result="taken")
        return True
