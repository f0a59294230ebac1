"""The online loop learns from what requests told: logged codes are the log's own, and rows of a round carry them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.asgi import call
from tests.support.declared.told_log import SYSTEMS, by_request, events_of, prepare_told, write_told_log
from tests.support.redis_server import free_port, redis_server
from tests.support.training.samples import training_config

from adbeam.beams.cost import BatchCost
from adbeam.config import Config
from adbeam.declared.encoder import FeatureEncoder
from adbeam.export.export_bundle import export
from adbeam.online.round_data import HELD_ROWS, NEW_ROWS
from adbeam.online.rounds import account, run_rounds
from adbeam.online.rows import is_held_out, to_rows
from adbeam.records import REQUEST_SCHEMA, TOLD, TOLD_BY
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.bundle_follower import first_model
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.events.event_log import EventLog, RequestLog
from adbeam.serving.http.app import build_api
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.load import open_store
from adbeam.serving.stores.store import now_ms
from adbeam.training.data.build_rows import RowStore
from adbeam.training.trainer import train
from adbeam.workdir import WorkDir

SMALL = {"users": 16, "items": 40, "visits": 10}
FEATURES: dict[str, Any] = {
    "os": {"kind": "category", "model": True},
    "interests": {"kind": "list", "model": True, "longest": 3},
    "age": {"kind": "number", "source": "user", "model": True, "buckets": 5},
    "maker": {"kind": "category", "source": "item", "model": True, "column": "advertiser"},
}
GATE = {"min_requests": 2, "likelihood_margin": 50.0, "ndcg_margin_share": 1.0}
ONLINE = {"workers": 0, "shards": 2, "min_samples": 4, "lists_per_round": 0, "gate": GATE}
REQUESTS = 60
Told = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A configuration whose bundle is told of systems, interests and the age of its users."""
    folder = tmp_path_factory.mktemp("told")
    events = events_of(folder / "log", **SMALL)
    columns = {
        "os": pa.array(by_request(events, [*SYSTEMS, None]), pa.string()),
        "interests": pa.array(by_request(events, [None, ["tea"], ["wine", "tea"], ["soap", "ham", "tea", "egg"]], 2)),
    }
    sample = write_told_log(folder / "log", columns, **SMALL)
    users = [{"user_id": f"user{place}", "age": 20.0 + 3 * place} for place in range(12)]
    pq.write_table(pa.Table.from_pylist(users), folder / "users.parquet")
    files = {"events": str(sample.events), "catalogue": str(sample.catalogue), "users": str(folder / "users.parquet")}
    settings = {"logs": {**sample.settings, "files": files}, "features": FEATURES, "online": ONLINE}
    config = training_config(folder, {"max_steps": 4}, **settings)
    prepare_told(config)
    train(config)
    export(config)
    return config


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis"), free_port()) as url:
        yield url


async def _serve(config: Config, store: dict[str, Any], prefix: str, late: bool = False) -> Told:
    """Ask, click and buy over HTTP; returns what each request told with what was kept of its user."""
    layout = WorkDir.of(config.work_dir)
    served = ServingConfig.parse(
        {"bundle": str(layout.bundles), "features": FEATURES, "store": store,
         "cache": {"enabled": True, "answer_repeats": True}, "deadline": {"min_ms": 0.001, "max_ms": 20_000},
         "event_log": {"folder": str(layout.events)}, "request_log": {"folder": str(layout.requests)}}
    )  # fmt: skip
    opened = open_store(served.store)
    model = first_model(
        partial(load_model, cost=BatchCost(1.0, 0.5, 0.01)), served, read_policy("deadline"), opened, Metrics()
    )
    logs = EventLog(served.event_log, opened), RequestLog(served.request_log, served.event_log.folder, is_told=True)
    service = RecommenderService(served, model, read_policy("deadline"), opened, Metrics(), *logs)
    service.start()
    api = build_api(service)
    ages = {f"user{place}": 21 + 4 * place for place in range(10)}
    users = [{"user_id": user, "profile": {"age": age}} for user, age in ages.items()]
    assert (await call(api, "POST", "/v1/users", {"users": users})).status == 200
    rng, asked = np.random.default_rng(0), {}
    for place in range(REQUESTS):
        user, context = f"user{place % 14}", dict[str, Any]()
        if (system := [*SYSTEMS, "newest", None][rng.integers(6)]) is not None:
            context["os"] = system
        if rng.integers(2):
            context["interests"] = [["tea", "tea"], ["egg", "soap", "wine", "tea"], ["unheard"]][rng.integers(3)]
        request = {"user_id": user, "request_id": f"{prefix}{place}", "context": context, "count": 3}
        reply = await call(api, "POST", "/v1/ads", {**request, "deadline_ms": 0.001 if late else 10_000})
        assert reply.status == 200, reply.json
        told = {name: tuple(value) if isinstance(value, list) else value for name, value in context.items()}
        asked[f"{prefix}{place}"] = told | ({} if late or user not in ages else {"age": float(ages[user])})
        ad = reply.json["ads"][0]["item_id"]
        event = {"event_id": f"{prefix}{place}", "request_id": request["request_id"], "user_id": user, "item_id": ad,
                 "timestamp": now_ms(), "action": "conversion", "price": 2.0}  # fmt: skip
        assert (await call(api, "POST", "/v1/events", {"events": [event]})).json["accepted"] == 1
    service.close()
    return asked


def _logged(folder: Path, prefix: str) -> dict[str, dict[str, Any]]:
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {row["request_id"]: row for row in rows if row["request_id"].startswith(prefix)}


def _encoder(config: Config) -> FeatureEncoder:
    encoder = FeatureEncoder.read(WorkDir.of(config.work_dir).prepared)
    assert encoder is not None
    return encoder


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
async def test_logged_codes_are_those_of_the_log(
    config: Config, tmp_path: Path, backend: str, request: pytest.FixtureRequest
) -> None:
    store: dict[str, Any] = {"path": str(tmp_path / "h.sqlite")}
    if backend == "redis":
        store = {"backend": "redis", "redis": {"urls": [request.getfixturevalue("redis_url")]}}
    asked = await _serve(config, store, backend)
    rows, encoder = _logged(WorkDir.of(config.work_dir).requests, backend), _encoder(config)
    assert rows.keys() == asked.keys() and {row[TOLD_BY] for row in rows.values()} == {encoder.fingerprint}
    expected = {name: encoder.codes([told])[0] for name, told in asked.items()}
    assert {name: tuple(row[TOLD]) for name, row in rows.items()} == expected
    assert len(set(expected.values())) > 20


async def test_answers_that_no_model_made_are_logged_with_what_the_request_told(config: Config, tmp_path: Path) -> None:
    asked = await _serve(config, {"path": str(tmp_path / "h.sqlite")}, "late", late=True)
    rows, encoder = _logged(WorkDir.of(config.work_dir).requests, "late"), _encoder(config)
    assert "fallback" in {row["source"] for row in rows.values()}
    for name, row in rows.items():
        if row["source"] == "fallback":
            assert tuple(row[TOLD]) == encoder.codes([asked[name]])[0]


async def test_a_round_trains_on_what_requests_told(config: Config, tmp_path: Path) -> None:
    layout = WorkDir.of(config.work_dir)
    if not layout.requests.is_dir():
        await _serve(config, {"path": str(tmp_path / "h.sqlite")}, "alone")
    old = next(iter(sorted(layout.requests.glob("*.parquet"))))
    stale = pq.read_table(old).select(REQUEST_SCHEMA.names)  # a log of before features were declared
    pq.write_table(stale, layout.requests / "requests-0.parquet")
    old.unlink()
    lost = set(stale["request_id"].to_pylist())
    known = {name: row for name, row in _logged(layout.requests, "").items() if row.get(TOLD) is not None}
    result = run_rounds(config)[0]
    assert result.verdict == "published", result.reason
    folder = layout.resolve().online / "rounds" / "00001" / "rows"
    learnt, judged = (Counter(_codes(config, folder / name)) for name in (NEW_ROWS, HELD_ROWS))
    held = {name for name in known if is_held_out(name, config.online.gate.holdout_percent)}
    assert judged == Counter(tuple(known[name][TOLD]) for name in held) and held
    new = Counter(tuple(row[TOLD]) for name, row in known.items() if name not in held)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["new"] == new.total() and not new - learnt
    assert account(config)["used"] == len(known) + len(lost) and lost


def _codes(config: Config, path: Path) -> list[tuple[int, ...]]:
    """What the rows say that requests told; it stands behind the five plain features."""
    rows = to_rows(pq.read_table(path), RowStore.open(WorkDir.of(config.work_dir).training_rows).format)
    return [tuple(row) for row in rows["static_F"][:, 5:].tolist()]
