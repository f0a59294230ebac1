"""A replica without Ray that an exchange asks: a bundle whose ads have creatives, behind the whole HTTP border."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from tests.support.asgi import Reply, call
from tests.support.bundles import random_catalogue, random_model_config, write_random_bundle

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.cost import BatchCost
from adbeam.records import DAY_MS, Action, Event
from adbeam.serving import service as service_module
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.events.event_log import RequestLog
from adbeam.serving.http.app import build_api
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import now_ms

ITEMS = 140
WEEK_MS, TUESDAY_MS = 7 * DAY_MS, 1_796_099_400_000
KNOWN = ("u17", "id5:u17")
"""Users with a history."""
SHAPES: tuple[dict[str, Any], ...] = (
    {"ad_format": "banner", "ad_w": 300, "ad_h": 250, "ad_type": 2},
    {"ad_format": "banner", "ad_w": 728, "ad_h": 90, "ad_type": 3, "ad_attr": "1, 6"},
    {"ad_format": "banner"},
    {"ad_format": "video", "ad_w": 640, "ad_h": 480, "ad_mimes": "video/mp4", "ad_seconds": 15},
    {"ad_format": "video", "ad_mimes": "video/webm", "ad_seconds": 30, "ad_attr": "16"},
    {"ad_format": "audio", "ad_mimes": "audio/mp4", "ad_seconds": 30},
    {"ad_format": "native", "ad_attr": "3"},
)
DOMAINS = ("north.example", "shop.south.example", "WWW.West.example", "east.example,east.test", None)
CATEGORIES = ("IAB1-2", "IAB12", "IAB25-3 IAB26", "IAB2")
APPS = (None, "com.game.one", None)
CAMPAIGNS = ("spring", "summer", None)
TEXTS = ("ad_format", "ad_mimes", "ad_attr", "ad_domains", "ad_categories", "ad_app", "ad_crid", "campaign")
NUMBERS = ("ad_w", "ad_h", "ad_type", "ad_seconds", "ad_expires")
COLUMNS = {
    "domains": "ad_domains", "categories": "ad_categories", "app": "ad_app", "format": "ad_format",
    "width_pixels": "ad_w", "height_pixels": "ad_h", "mimes": "ad_mimes", "attributes": "ad_attr",
    "banner_type": "ad_type", "duration_seconds": "ad_seconds", "expires_seconds": "ad_expires",
    "creative_id": "ad_crid",
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "full": {
        "creatives": COLUMNS,
        "rates": {"EUR": 2.0, "JPY": 0.01},
        "deals": {"d1": {}, "spring-deal": {"campaigns": ["spring"]}, "dear-deal": {"price_min_cpm": 1e6}},
        "eids": {"id5.example": "id5:"},
        "nurl": "https://ads.example/win?bid={bid_id}&ad={item_id}&price=${AUCTION_PRICE}&cur=${AUCTION_CURRENCY}",
        "burl": "https://ads.example/bill?{request_id}-{imp_id}&price=${AUCTION_PRICE:B64}",
        "lurl": "https://ads.example/loss?c={campaign}&why=${AUCTION_LOSS}",
    },
    "complete": {"supply_chain": "complete"},
}  # fmt: skip
"""Sections `openrtb` of the cases."""


def moment_ms() -> int:
    """The last Tuesday, half past four (UTC): a model without training answers each hour of a week differently."""
    return now_ms() - (now_ms() - TUESDAY_MS) % WEEK_MS


def row_of(number: int) -> dict[str, Any]:
    """What the columns say of the ad `item-N`."""
    return {
        **SHAPES[number % len(SHAPES)],
        "ad_domains": DOMAINS[number % len(DOMAINS)],
        "ad_categories": CATEGORIES[number % len(CATEGORIES)],
        "ad_app": APPS[number % len(APPS)],
        "campaign": CAMPAIGNS[number % len(CAMPAIGNS)],
        "ad_expires": 300 if number % 2 else None,
        "ad_crid": f"creative-{number}",
    }


def write_exchange_bundle(root: Path) -> Path:
    """A bundle whose ads are worth what their column `ecpm` says, 1 to 10."""
    config = random_model_config()
    table = random_catalogue(ITEMS, config)
    worth = pa.array([1 + (number * 37 % 90) / 10 for number in range(ITEMS)], pa.float64())
    table = table.set_column(table.column_names.index("ecpm"), "ecpm", worth)
    rows = [row_of(number) for number in range(ITEMS)]
    for names, kind in ((TEXTS, pa.string()), (NUMBERS, pa.float64())):
        for name in names:
            table = table.append_column(name, pa.array([row.get(name) for row in rows], kind))
    return write_random_bundle(root, config=config, catalogue=table, ecpm_means=[0.0] * config.ecpm_buckets)


class Exchange:
    """Asks one replica."""

    def __init__(self, service: RecommenderService, metrics: Metrics) -> None:
        self.service, self.metrics = service, metrics
        self.api = build_api(service)

    async def ask(self, request: Any, headers: dict[str, str] | None = None) -> Reply:
        """The answer to a bid request."""
        return await call(self.api, "POST", "/v1/openrtb", request, headers)


@asynccontextmanager
async def exchange(bundle: Path, folder: Path, openrtb: dict[str, Any], **args: Any) -> AsyncIterator[Exchange]:
    """A replica with this section `openrtb`, and histories of KNOWN."""
    fixed = {"cache": {"enabled": False}, "deadline": {"max_ms": 120_000}}
    config = ServingConfig.parse({"bundle": str(bundle), "openrtb": openrtb, **fixed, **args})
    folder.mkdir(parents=True, exist_ok=True)
    policy = BeamPolicyConfig.named("static").model_copy(update={"default_deadline_ms": 60_000.0})
    metrics, store = Metrics(), SqliteStore(folder / "h.sqlite")
    for user in KNOWN:
        store.append([_event(user, number) for number in range(8)])
    model = load_model(bundle, config, policy, store, metrics, BatchCost(0.1, 0.1, 0.001))
    log = RequestLog(config.request_log) if config.request_log.folder is not None else None
    service = RecommenderService(config, model, policy, store, metrics, None, log)
    service.start()
    try:
        with patch.object(service_module, "now_ms", moment_ms):
            yield Exchange(service, metrics)
    finally:
        service.close()


def _event(user: str, number: int) -> Event:
    return Event(
        event_id=f"{user}-{number}", request_id=f"{user}-{number}", user_id=user, item_id=f"item-{3 * number}",
        timestamp=moment_ms() - 60_000 * (1 + number), action=Action.CONVERSION, price=5.0,
    )  # fmt: skip
