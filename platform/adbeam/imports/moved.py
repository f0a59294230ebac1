"""Deprecated module names: the old ones of the rooms laid out anew are found for one release, with a warning.

docs/moved.md lists every file, tests and benchmarks too.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "api_reference": "reference.api",
    "audit": "operations.vulnerabilities",
    "beams.simulate": "beams.simulation",
    "cluster.commands": "cli.cluster",
    "config_reference": "reference.configuration",
    "dashboards.commands": "cli.dashboards",
    "decoding.branches": "decoding.trie.paths",
    "decoding.buffers": "decoding.engines.buffers",
    "decoding.constraint": "decoding.masks.constraint",
    "decoding.context_reader": "decoding.engines.context_reader",
    "decoding.cost": "beams.cost",
    "decoding.engine": "decoding.engines.lazyar",
    "decoding.filters": "decoding.masks.filters",
    "decoding.late_leaves": "decoding.trie.unbuilt_leaves",
    "decoding.mtp_engine": "decoding.engines.mtp",
    "decoding.open_few": "decoding.masks.sparse",
    "decoding.open_leaves": "decoding.masks.base",
    "decoding.open_many": "decoding.masks.dense",
    "decoding.own_past": "decoding.engines.self_attention",
    "decoding.precision": "decoding.engines.precision",
    "decoding.recorded_engine": "decoding.engines.lazyar_graphs",
    "decoding.recordings": "decoding.engines.cuda_graphs",
    "decoding.trie_build": "decoding.trie.build",
    "decoding.trie_items": "decoding.trie.items",
    "decoding.trie_level": "decoding.trie.level",
    "decoding.trie_tensors": "decoding.trie.tensors",
    "decoding.trie_updates": "decoding.trie.updates",
    "decoding.votes": "decoding.engines.prior_votes",
    "decoding.weights": "decoding.engines.weights",
    "doctor": "operations.doctor",
    "evaluation.ladder_quality": "export.ladder_quality",
    "evaluation.ranker": "inference.recommender",
    "jobs.commands": "cli.jobs",
    "logs.completejourney": "logs.sources.completejourney",
    "logs.completejourney_items": "logs.sources.completejourney_items",
    "logs.completejourney_places": "logs.sources.completejourney_places",
    "logs.completejourney_views": "logs.sources.completejourney_views",
    "logs.files": "logs.sources.files",
    "logs.runners": "ray_data.runners",
    "logs.sequence_file": "logs.sources.sequences",
    "logs.source": "logs.sources.base",
    "model.batch": "features.batch",
    "model.contexts": "features.contexts",
    "model.features": "features.history",
    "model.history_prior": "model.priors.history",
    "model.history_tokens": "features.tokens",
    "model.spec": "features.spec",
    "model.trend_prior": "model.priors.trend",
    "model.votes": "model.priors.votes",
    "ray_parquet": "ray_data.parquet",
    "serving.answers": "serving.http.bodies",
    "serving.api": "serving.http.app",
    "serving.arrivals": "loadtest.arrivals",
    "serving.auth": "serving.http.auth",
    "serving.awaited": "serving.queue.deadlines",
    "serving.border": "serving.http.checks",
    "serving.cache": "serving.queue.cache",
    "serving.calibrate": "serving.engine.calibrate",
    "serving.capacity": "loadtest.capacity",
    "serving.catalogue": "catalogue.ads",
    "serving.commands": "cli.live.ads",
    "serving.console": "serving.http.console",
    "serving.decode_loop": "serving.queue.decode_loop",
    "serving.engine_channel": "serving.engine.channel",
    "serving.engine_process": "serving.engine.process",
    "serving.eventlog": "serving.events.event_log",
    "serving.feedback": "serving.events.feedback",
    "serving.fleet": "serving.monitoring.replica_counts",
    "serving.histories": "serving.engine.contexts",
    "serving.http_pool": "loadtest.connections",
    "serving.launch": "serving.deploy.local",
    "serving.live": "catalogue.live_ads",
    "serving.live_process": "serving.engine.live_mirror",
    "serving.loadplan": "loadtest.plan",
    "serving.loadreport": "loadtest.report",
    "serving.loadtest": "loadtest.runner",
    "serving.metrics": "serving.monitoring.metrics",
    "serving.openapi": "serving.http.openapi",
    "serving.openrtb": "serving.http.openrtb",
    "serving.policy": "serving.deploy.policy",
    "serving.problems": "serving.http.problems",
    "serving.query": "serving.engine.request",
    "serving.recent": "serving.monitoring.recent_answers",
    "serving.reply_lag": "serving.queue.event_loop_lag",
    "serving.rollout": "serving.deploy.bundle_follower",
    "serving.schemas": "serving.http.schemas",
    "serving.serve_config": "serving.deploy.config_file",
    "serving.store": "serving.stores.store",
    "serving.store_load": "serving.stores.load",
    "serving.store_redis": "serving.stores.redis",
    "serving.store_sqlite": "serving.stores.sqlite",
    "serving.switches": "serving.deploy.environment",
    "serving.trends": "serving.stores.trends",
    "sizing": "operations.sizing",
    "status": "operations.status",
    "supply_chain": "operations.dependencies",
    "tokens.actors": "ray_data.pools",
    "tokens.attributes": "tokens.embedders.attributes",
    "tokens.balanced": "tokens.quantizers.balanced",
    "tokens.behaviour": "tokens.embedders.behaviour",
    "tokens.business": "tokens.quantizers.hashed_level",
    "tokens.contrastive": "tokens.cooccurrence.contrastive",
    "tokens.embedder": "tokens.embedders.base",
    "tokens.fold": "catalogue.fold_updates",
    "tokens.follower": "catalogue.follower",
    "tokens.index": "catalogue.index",
    "tokens.language": "tokens.embedders.language",
    "tokens.learned": "tokens.quantizers.rq_vae",
    "tokens.multimodal": "tokens.embedders.multimodal",
    "tokens.nearest": "tokens.quantizers.cheapest_code",
    "tokens.quantizer": "tokens.quantizers.rq_kmeans",
    "tokens.sid_table": "features.sid_table",
    "tokens.summary": "tokens.report",
    "tokens.swing": "tokens.cooccurrence.swing",
    "tokens.swing_job": "tokens.cooccurrence.swing_job",
    "tokens.trends": "features.trends",
    "tokens.updates": "catalogue.updates",
    "tokens.updates_redis": "catalogue.updates_redis",
    "training.anomaly": "training.guards.anomaly",
    "training.batches": "training.data.batches",
    "training.bundling": "export.export_bundle",
    "training.checkpoint": "training.state.checkpoint",
    "training.engine": "training.state.deepspeed_engine",
    "training.ingest": "training.data.build_rows",
    "training.list_rows": "training.data.list_rows",
    "training.meter": "training.tracking.step_meter",
    "training.optimizer": "training.state.optimizer",
    "training.order": "training.data.order",
    "training.plain": "training.reference_loop",
    "training.preemption": "training.guards.preemption",
    "training.prefixes": "training.data.prefixes",
    "training.progress": "training.tracking.progress",
    "training.rails": "training.guards.divergence",
    "training.resharding": "training.state.resharding",
    "training.row_builder": "training.data.row_builder",
    "training.rows": "training.data.rows",
    "training.run_record": "training.tracking.run_record",
    "training.runs": "training.tracking.runs",
    "training.sharding": "training.data.data_config",
    "training.stream": "training.data.stream",
    "training.sweep": "sweep.search",
    "training.sweep_trial": "sweep.trial",
}
"""Old module name to new one, both without `adbeam.`. Where a package now has the name, names_of serves it."""


class MovedModules:
    """A finder for sys.meta_path: it stands last, so that it is asked only for names that nobody else knows."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """The spec of an old module name; None for all others."""
        new = MOVED.get(name.removeprefix("adbeam.")) if name.startswith("adbeam.") else None
        return ModuleSpec(name, _Alias(f"adbeam.{new}")) if new is not None else None


class _Alias(Loader):
    """A loader that puts the module of another name in place of the one asked for."""

    def __init__(self, new: str) -> None:
        self._new = new

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        _warn(old, self._new)
        sys.modules[old] = importlib.import_module(self._new)


def names_of(package: str, module: str) -> Callable[[str], Any]:
    """A package's `__getattr__` where a module of its name stood before: names are looked up in `module`."""

    def look_up(name: str) -> Any:
        if name.startswith("__"):  # what Python itself asks of a package
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module), name)
        _warn(package, module)
        return value

    return look_up


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes with the next release", DeprecationWarning, stacklevel=3)
