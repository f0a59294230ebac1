"""The door: `import adbeam` is light, and its Recommender answers as the endpoint does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.asgi import call
from tests.support.bundles import write_random_bundle

import adbeam
from adbeam.beams.cost import BatchCost
from adbeam.list_rules.config import ListRulesConfig
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.http.app import build_api
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore

COST = BatchCost(1.0, 0.5, 0.01)
NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    write_random_bundle(root, 300)
    return root


@pytest.fixture(scope="module")
def recommender(folder: Path) -> adbeam.Recommender:
    return adbeam.Recommender.load(folder)


def test_the_import_loads_nothing_and_every_stable_name_leads_somewhere() -> None:
    code = (
        "import sys, adbeam\n"
        "assert adbeam.__version__[0].isdigit()\n"
        "heavy = {'torch', 'ray', 'numpy', 'pydantic', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "adbeam.Config, adbeam.UserError, adbeam.steps.train, adbeam.Bundle\n"
        "assert 'torch' not in sys.modules\n"
        "assert set(adbeam.__all__) <= set(dir(adbeam))\n"
        "from adbeam import *\n"
        "from adbeam import steps\n"
        "import adbeam.export\n"
        "assert callable(steps.export) and Recommender.load\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_name_that_is_none_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'adbeam' has no attribute 'Recomender'"):
        _ = adbeam.Recomender


async def served(folder: Path, tmp_path: Path, body: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    """What a replica answers to `body` over HTTP, searched at full width."""
    config = ServingConfig(bundle=folder, watch_seconds=0, **settings)
    store, metrics, policy = SqliteStore(tmp_path / "h.sqlite"), Metrics(), read_policy("static")
    model = load_model(folder, config, policy, store, metrics, COST)
    service = RecommenderService(config, model, policy, store, metrics)
    service.start()
    try:
        reply = await call(build_api(service), "POST", "/v1/ads", {**body, "deadline_ms": 5000})
    finally:
        service.close()
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json["ads"]
    return found


async def test_the_answer_is_that_of_the_endpoint(
    folder: Path, recommender: adbeam.Recommender, tmp_path: Path
) -> None:
    history = [{"item_id": f"item-{n}", "timestamp": NOW_MS - 1000 * (9 - n)} for n in range(8)]
    filters = {"blocked_advertisers": ["north"], "exclude_seen": True}
    asked = {"history": history, "count": 10, "scene": "mailer", "filters": filters, "timestamp": NOW_MS}
    ads = recommender.recommend(history, 10, scene="mailer", filters=filters, timestamp=NOW_MS)
    assert len(ads) == 10
    assert [plain(ad) for ad in ads] == [plain(ad) for ad in await served(folder, tmp_path, asked)]


async def test_rules_of_lists_count_as_they_do_at_the_endpoint(folder: Path, tmp_path: Path) -> None:
    asked = {"history": [], "count": 8, "timestamp": NOW_MS}
    ads = adbeam.Recommender.load(folder, {"list_rules": {"most_per_advertiser": 2}}).recommend([], 8, timestamp=NOW_MS)
    rules = ListRulesConfig.parse({"most_per_advertiser": 2})
    assert [plain(ad) for ad in ads] == [plain(ad) for ad in await served(folder, tmp_path, asked, list_rules=rules)]


def plain(ad: dict[str, Any]) -> dict[str, Any]:
    """An ad without the last digits of what is computed."""
    return {
        name: pytest.approx(value, rel=1e-5) if isinstance(value, float) else list(value) if name == "sid" else value
        for name, value in ad.items()
    }


def test_ids_alone_are_conversions_a_minute_apart(recommender: adbeam.Recommender) -> None:
    events = [
        {"item_id": "item-3", "timestamp": NOW_MS - 120_000},
        {"item_id": "item-4", "timestamp": NOW_MS - 60_000},
    ]
    short = recommender.recommend(["item-3", "item-4"], 5, timestamp=NOW_MS)
    assert short == recommender.recommend(events, 5, timestamp=NOW_MS)


def test_many_requests_get_what_each_gets_alone(recommender: adbeam.Recommender) -> None:
    requests = [
        {"history": [{"item_id": f"item-{n}", "timestamp": NOW_MS - 1}], "count": 3, "timestamp": NOW_MS}
        for n in range(20)
    ]
    alone = [recommender.recommend_many([request])[0] for request in requests[:3]]
    together = recommender.recommend_many(requests)
    assert [[ad["item_id"] for ad in ads] for ads in together[:3]] == [[ad["item_id"] for ad in ads] for ads in alone]
    assert len(together) == 20


def test_a_wrong_field_is_named_as_the_endpoint_names_it(recommender: adbeam.Recommender) -> None:
    with pytest.raises(adbeam.UserError, match=r"scene: request 0: .*'display' or 'mailer'; got 'radio'"):
        recommender.recommend([], scene="radio")
    with pytest.raises(adbeam.UserError, match="colour: request 0: Extra inputs are not permitted"):
        recommender.recommend([], colour="red")


def test_users_are_known_where_a_store_is_named(folder: Path, tmp_path: Path) -> None:
    from adbeam.records import Event

    store = SqliteStore(tmp_path / "users.sqlite")
    store.append([Event(event_id="e", request_id="r", user_id="u", timestamp=NOW_MS - 60_000, item_id="item-3",
                        item_kind="ad", scene="display", action="conversion", price=0.0)])  # fmt: skip
    store.close()
    known = adbeam.Recommender.load(folder, {"store": {"path": str(tmp_path / "users.sqlite")}})
    ads = known.recommend(None, 5, user_id="u", timestamp=NOW_MS)
    assert ads == known.recommend(["item-3"], 5, user_id="u", timestamp=NOW_MS)
    assert ads != known.recommend(None, 5, user_id="nobody-yet", timestamp=NOW_MS)
