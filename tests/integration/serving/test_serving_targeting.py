"""Targeting as a client meets it: a replica over HTTP whose model is in a process of its own, cache on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.support.redis_server import free_port
from tests.support.replicas import start_replicas, stop_replicas, write_tokenized_bundle

from adbeam.bundle import load_bundle, write_again
from adbeam.serving.client import call

ADS, KEY = 40, "a-key-of-the-admin"
ONLY_DE = {"country": {"in": ["de"]}}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("targeting")
    bundle = load_bundle(write_tokenized_bundle(folder / "bundles", ADS))
    texts = ['{"country":{"in":["de"]}}', '{"country":{"not_in":["de"]}}', *[None] * (ADS - 2)]
    catalogue = bundle.catalogue.append_column("targeting", pa.array(texts, pa.string()))
    write_again(folder / "bundles", bundle, {}, catalogue=catalogue)
    args: dict[str, Any] = {
        "bundle": str(folder / "bundles"),
        "policy": "deadline",
        "features": {"country": {"kind": "category"}, "age": {"kind": "number"}},
        "store": {"path": str(folder / "h.sqlite")},
        "updates": {"path": str(folder / "ads.sqlite"), "poll_ms": 20},
        "cache": {"enabled": True, "ttl_seconds": 600, "answer_repeats": True},
        "admin": {"mode": "bearer"},
        "engine": {"calibration_seconds": 0.2},
        "deadline": {"min_ms": 0.001, "max_ms": 20_000},
    }
    port = free_port()
    os.environ["ADBEAM_ADMIN_KEYS"] = KEY
    try:
        processes = start_replicas(args, [port])
        yield f"http://127.0.0.1:{port}"
        stop_replicas(processes)
    finally:
        del os.environ["ADBEAM_ADMIN_KEYS"]


def _answer(url: str, deadline_ms: float = 10_000, **body: Any) -> tuple[str, set[str]]:
    """(where the answer came from, its ads)."""
    status, answer = call(url, "POST", "/v1/ads", {"user_id": "u", "count": 60, "deadline_ms": deadline_ms, **body})
    assert status == 200, answer
    return answer["served"]["source"], {ad["item_id"] for ad in answer["ads"]}


def _change(url: str, *changes: dict[str, Any]) -> tuple[int, Any]:
    return call(url, "POST", "/v1/admin/ads", {"changes": list(changes)}, token=KEY)


def test_answers_of_every_source_are_legal_at_the_moment_they_are_sent(url: str) -> None:
    for country, shown, hidden in (("de", "ad0", "ad1"), ("fr", "ad1", "ad0")):
        for source in ("model", "cache"):
            came_from, found = _answer(url, context={"country": country})
            assert came_from == source and shown in found and hidden not in found and len(found) == ADS - 1
        came_from, found = _answer(url, 0.001, user_id="other", context={"country": country})
        assert came_from == "fallback" and shown in found and hidden not in found
    changes = [{"operation": "update", "item_id": name, "targeting": ONLY_DE} for name in ("ad1", "ad5")]
    assert _change(url, *changes)[0] == 200
    came_from, found = _answer(url, context={"country": "fr"})
    assert came_from == "cache" and not {"ad0", "ad1", "ad5"} & found and len(found) == ADS - 3
    came_from, found = _answer(url, 0.001, user_id="other", context={"country": "fr"})
    assert came_from == "fallback" and not {"ad0", "ad1", "ad5"} & found
    came_from, found = _answer(url, user_id="third", context={"country": "de"})
    assert came_from == "model" and {"ad0", "ad1", "ad5"} <= found


def test_a_new_ad_is_shown_to_those_it_is_for(url: str) -> None:
    item = {"item_id": "new", "title": "dark tea", "targeting": ONLY_DE}
    assert _change(url, {"operation": "insert", "item_id": "new", "item": item})[0] == 200
    assert "new" in _answer(url, user_id="a", context={"country": "de"})[1]
    assert "new" not in _answer(url, user_id="a", context={"country": "fr"})[1]
    assert "new" not in _answer(url, user_id="a")[1]


def test_what_is_wrong_is_named(url: str) -> None:
    status, problem = call(url, "POST", "/v1/ads", {"user_id": "u", "context": {"nation": "de"}})
    assert status == 422 and problem["errors"][0]["field"] == "context.nation"
    for rules, field in (({"nation": {"in": ["de"]}}, "nation"), ({"age": {"from": 9, "to": 1}}, "age")):
        status, problem = _change(url, {"operation": "update", "item_id": "ad1", "targeting": rules})
        assert status == 422 and f"targeting.{field}" in problem["detail"]
