"""One replica without Ray around an engine that decodes when its gate is open."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from adbeam.beams.cost import BatchCost
from adbeam.catalogue.popular import PopularAd, PopularAds
from adbeam.decoding.trie.paths import Step
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.loaded_model import LoadedModel, ModelFacts
from adbeam.serving.engine.request import Answer, Query
from adbeam.serving.http.answer_schemas import AdResponse
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore

FULL = (8, 16)


def ad(name: str, score: float = 1.0) -> dict[str, Any]:
    return {"item_id": name, "title": name, "price": 1.0, "sid": [1, 2], "score": score, "probability": 0.5,
            "expected_ecpm": 2.0}  # fmt: skip


class GatedEngine:
    """Decodes when the gate is open; remembers what it was asked."""

    def __init__(self, version: str = "v1") -> None:
        self.version = version
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[Query]] = []
        self.fails = False
        self.poison = ""

    def prepare_thread(self) -> None:
        pass

    def close(self) -> None:
        pass

    def path(self, sid: Sequence[int]) -> list[Step]:
        raise NotImplementedError

    def answer(self, queries: Sequence[Query], schedules: Sequence[tuple[int, ...]]) -> list[Answer]:
        self.batches.append(list(queries))
        self.gate.wait(10)
        if self.fails:
            raise RuntimeError("no luck")
        if self.poison and any(query.user_id == self.poison for query in queries):
            raise RuntimeError("bad request")
        return [Answer([] if query.scene == "empty" else [ad(f"{self.version}-ad")], True, 2.0) for query in queries]


def model_of(engine: GatedEngine, popular: int = 3, cost: BatchCost | None = None) -> LoadedModel:
    ads: list[PopularAd] = [
        (ad(f"popular-{place}", 1 / (1 + place)), f"advertiser-{place}", None) for place in range(popular)
    ]
    cost = cost or BatchCost(0.1, 0.1, 0.001)
    facts = ModelFacts(engine.version, cost, FULL, None, ("feed", "empty"), "impressions")
    return LoadedModel(engine, facts, PopularAds(ads), time.monotonic())


@asynccontextmanager
async def running(
    tmp_path: Path, decoder: GatedEngine, *, policy: dict[str, Any] | None = None, popular: int = 3,
    cost: BatchCost | None = None, **args: Any,
) -> AsyncIterator[RecommenderService]:  # fmt: skip
    service = RecommenderService(
        ServingConfig.parse(args), model_of(decoder, popular, cost), read_policy(policy or "deadline"),
        SqliteStore(tmp_path / "h.sqlite"), Metrics(),
    )  # fmt: skip
    service.start()
    try:
        yield service
    finally:
        decoder.gate.set()
        service.close()


async def ask(service: RecommenderService, deadline_ms: float = 2000.0, **body: Any) -> dict[str, Any] | None:
    request = service.request_type.model_validate_json(json.dumps(body))
    answer = await service.ads(request, deadline_ms, time.monotonic())
    if answer is None:
        return None
    return AdResponse.model_validate_json(answer).model_dump()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")
