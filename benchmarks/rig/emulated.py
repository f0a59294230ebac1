"""A replica whose decode is EMULATED: it sleeps for as long as a fitted cost model says a decode takes.

For autoscaling only, where four busy replicas would need more cores than there are. Queue, controller, HTTP, metrics
and autoscaling are the real ones. `import_path: benchmarks.rig.emulated:build`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import serve

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.cost import BatchCost, beam_rows
from adbeam.beams.ladder import Widths
from adbeam.bundle import resolve
from adbeam.catalogue.popular import PopularAds
from adbeam.decoding.trie.paths import Step
from adbeam.recorder import Recorder
from adbeam.serving.app import MAX_ONGOING_REQUESTS
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.args import validated_args
from adbeam.serving.engine.loaded_model import LoadedModel, ModelFacts
from adbeam.serving.engine.request import Answer, Query
from adbeam.serving.replica import Recommender
from adbeam.serving.stores.store import HistoryStore

COST = BatchCost(a_ms=8.0, c0_ms=6.0, c1_ms_per_row=0.12)
"""33 ms a request at full width: 24 requests/s of four replicas leave the cores free."""
FULL: Widths = (32, 64, 128)
ADS = [{"item_id": f"ad{n}", "title": "", "price": None, "sid": [0, 0, n], "score": 1.0, "probability": 0.1,
        "expected_ecpm": 1.0} for n in range(10)]  # fmt: skip


class PacedEngine:
    """Sleeps instead of decoding."""

    def __init__(self, version: str) -> None:
        self.version = version

    def prepare_thread(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to release."""

    def answer(self, queries: Sequence[Query], schedules: Sequence[Widths]) -> list[Answer]:
        """The same ads for everybody, after the time of a decode."""
        time.sleep(COST.batch_ms([beam_rows(widths) for widths in schedules]) / 1000)
        return [Answer([dict(ad) for ad in ADS[: query.count]], False, 1.0) for query in queries]

    def path(self, sid: Sequence[int]) -> list[Step]:
        """There is no trie."""
        return []


def load_paced(
    path: Path, config: ServingConfig, policy: BeamPolicyConfig, store: HistoryStore, metrics: Recorder
) -> LoadedModel:
    """A LoadedModel that decodes nothing."""
    engine = PacedEngine(resolve(path).name)
    popular = PopularAds([(ad, None, None) for ad in ADS])
    facts = ModelFacts(engine.version, COST, FULL, None, ("display",), "impressions")
    return LoadedModel(engine, facts, popular, time.monotonic())


class EmulatedRecommender(Recommender):
    """A Recommender with a paced engine."""

    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__(args, load_paced)


Deployment = serve.deployment(name="Recommender", max_ongoing_requests=MAX_ONGOING_REQUESTS)(
    serve.ingress()(EmulatedRecommender)
)


def build(args: dict[str, Any]) -> serve.Application:
    """The application for a Serve config file."""
    return Deployment.bind(validated_args(args))
