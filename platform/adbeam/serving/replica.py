"""The recommender replica: a Serve deployment that is the HTTP ingress and the decoder at once (one hop).

Everything that answers requests lives in RecommenderService, which knows no Ray; this class gives it to Serve: building
the model, reconfiguration, health, autoscaling figures, metrics, and following the bundle in force.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from adbeam.errors import UserError
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.args import validated_options
from adbeam.serving.deploy.bundle_follower import BundleFollower, first_model
from adbeam.serving.deploy.environment import missing_switches
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.process import keep_loaded, load_in_process
from adbeam.serving.events.event_log import EventLog, RequestLog
from adbeam.serving.http.app import build_api
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.monitoring.replica_counts import Fleet
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.load import open_store

logger = logging.getLogger("ray.serve")

FLUSH_SECONDS = 0.5
SWITCH_INTERVAL_SECONDS = 0.0005
"""How long one thread may keep the interpreter: the event loop must not wait for the decode thread's Python parts."""

Loader = Callable[..., LoadedModel]


class Recommender:
    """One replica. `args` are those of a ServingConfig with absolute paths; `loader` makes the model of a bundle, by
    default in a process of its own."""

    def __init__(self, args: dict[str, Any], loader: Loader | None = None) -> None:
        warn_about_switches()
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        self.config = config = ServingConfig.parse(args, source="args")
        self._metrics = Metrics()
        store = open_store(config.store)
        policy = read_policy(config.policy)
        loader = loader or (load_in_process if config.engine.own_process else load_model)
        model = first_model(loader, config, policy, store, self._metrics)
        log = EventLog(config.event_log, store) if config.event_log.folder is not None else None
        answered = config.request_log.folder
        is_told = any(feature.model for feature in config.features.values())
        requests = None if answered is None else RequestLog(config.request_log, config.event_log.folder, is_told)
        self.service = RecommenderService(config, model, policy, store, self._metrics, log, requests)
        self.service.fleet = Fleet().look
        self._follower = BundleFollower(self.service, loader, self._metrics)
        self._stopping = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []
        keep_loaded()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application that Serve puts behind this replica's port."""
        return build_api(self.service)

    async def reconfigure(self, user_config: dict[str, Any] | None) -> None:
        """Take a new policy or bundle without a restart; one that fails its checks leaves the old one in force.

        Raises UserError for a bad policy only when the replica starts: later Serve would end it, and its successors."""
        starting = not self._tasks
        self._ensure_started()
        try:
            policy, bundle = validated_options(user_config, self.config.policy)
        except UserError as error:
            if starting:
                raise
            logger.error("user_config is refused, what was in force stays: %s", error)
            return
        self.service.take_policy(policy)
        await self._follower.follow(bundle or self.config.bundle)

    async def check_health(self) -> None:
        """Raise when the decode thread is dead, stuck or failing, so that Serve replaces this replica."""
        self._ensure_started()
        fault = self.service.health()
        if fault is not None:
            raise RuntimeError(fault)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Demand at full width and what else adbeam.serving.autoscaling reads."""
        return self.service.publish()

    def __del__(self) -> None:
        # Serve calls this to end a replica: else the decode process would be killed, and the logs' last rows be lost.
        if hasattr(self, "_stopping"):  # not if the constructor failed
            self._stopping.set()
            self.service.close()

    def _ensure_started(self) -> None:
        if self._tasks:
            return
        self.service.start()
        self._tasks = [asyncio.create_task(self._publish())]
        if self.config.watch_seconds:
            self._tasks.append(asyncio.create_task(self._follower.watch(self.config.watch_seconds)))
        threading.Thread(target=self._flush, name="metrics", daemon=True).start()

    async def _publish(self) -> None:
        while True:
            self.service.publish()
            await asyncio.sleep(FLUSH_SECONDS)

    def _flush(self) -> None:
        while not self._stopping.wait(FLUSH_SECONDS):
            try:
                self._metrics.flush()
            except Exception:
                logger.exception("metrics could not be published")


def warn_about_switches() -> None:
    """Say once which of Serve's tuned switches this process runs without."""
    missing = missing_switches(os.environ)
    if missing:
        logger.warning(
            "Serve runs without %s: a request costs several times as much. "
            "Start Ray and Serve with the variables of serving/serve.env, or use `adbeam serve`.",
            ", ".join(missing),
        )
