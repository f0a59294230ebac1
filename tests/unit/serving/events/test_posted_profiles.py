"""Profiles over the HTTP border of a whole replica: kept, refused by name, in force at once, and forgotten."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.asgi import Reply, call
from tests.support.serving.gated_engine import GatedEngine, ad, running
from tests.support.serving.store_events import event

from adbeam.serving.engine.known_users import KnownUsers
from adbeam.serving.engine.request import Answer, Query
from adbeam.serving.http.app import build_api
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.store import Known

FEATURES = {
    "age": {"kind": "number", "source": "user"},
    "likes": {"kind": "list", "source": "user"},
    "country": {"kind": "category"},
}
ADULTS = '{"age":{"from":18.0,"missing":true}}'


async def _post(service: RecommenderService, *users: dict[str, Any]) -> Reply:
    return await call(build_api(service), "POST", "/v1/users", {"users": list(users)})


def _user(user_id: str, **profile: Any) -> dict[str, Any]:
    return {"user_id": user_id, "profile": profile}


async def test_profiles_are_kept_replaced_and_taken_out(tmp_path: Path) -> None:
    async with running(tmp_path, GatedEngine(), features=FEATURES) as service:
        users = _user("u", age=31, likes=["tea", "tea", 5]), _user("v"), _user("null", age=5), _user("w" * 200, age=7)
        for _ in range(2):
            reply = await _post(service, *users)
            assert (reply.status, reply.json) == (200, {"stored": 2, "removed": 1, "nobody": 1})
        known = service.store.known_many(["u", "v", "null"])
        assert [each.profile for each in known] == ['{"age":31.0,"likes":["5","tea"]}', None, None]
        assert (await _post(service, _user("u", age=None, likes=[]))).json["removed"] == 1
        assert service.store.known_many(["u"])[0].profile is None


@pytest.mark.parametrize(
    ("users", "field", "said"),
    [
        ([_user("u", age="31")], "users.0.profile.age", "valid number"),
        ([_user("a"), _user("u", country="de")], "users.1.profile.country", "not permitted"),
        ([_user("u", **{f"f{n}": n for n in range(10_000)})], "users.0.profile.f0", "not permitted"),
        ([_user("u", age=1), _user("u", age=2)], "users.1.user_id", "each user once"),
        ([_user("u", likes=["x" * 200 + str(n) for n in range(30)])], "users.0.profile", "at most 4,096 bytes"),
        ([_user("u", likes=["x" * 257])], "users.0.profile.likes.0", "at most 256 bytes"),
        ([_user("x" * 5000, age=1)], "users.0.user_id", "at most 4096"),
        ([_user(f"u{n}") for n in range(1001)], "users", "at most 1000"),
        ([], "users", "at least 1"),
        ([{"user_id": "u"}], "users.0.profile", "required"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_kept(
    tmp_path: Path, users: list[dict[str, Any]], field: str, said: str
) -> None:
    async with running(tmp_path, GatedEngine(), features=FEATURES) as service:
        reply = await _post(service, *users)
        assert reply.status == 422 and reply.json["errors"][0]["field"] == field
        assert said in reply.json["errors"][0]["message"]
        assert service.store.known_many(["u", "a"]) == [Known(), Known()]


async def test_without_features_of_users_every_field_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, GatedEngine(), features={"age": {"kind": "number"}}) as service:
        reply = await _post(service, _user("u", age=31))
        assert reply.status == 422 and reply.json["errors"][0]["field"] == "users.0.profile.age"


@pytest.mark.parametrize("name", ["u", "a/b", "Ü😀", "w" * 200])
async def test_a_user_is_forgotten_and_asking_again_is_safe(tmp_path: Path, name: str) -> None:
    async with running(tmp_path, GatedEngine(), features=FEATURES) as service:
        await _post(service, _user(name, age=31))
        posted = {**event(1).model_dump(mode="json", exclude_none=True), "user_id": name}
        assert (await call(build_api(service), "POST", "/v1/events", {"events": [posted]})).json["accepted"] == 1
        gone = [await call(build_api(service), "DELETE", f"/v1/users/{name}") for _ in range(2)]
        assert [reply.json for reply in gone] == [
            {"profile": True, "history": True},
            {"profile": False, "history": False},
        ]
        assert (await call(build_api(service), "DELETE", "/v1/users/null")).status == 422


async def test_a_store_that_refuses_is_a_503_and_no_value_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("Command # 1 (SET adbeam:profile:secret-user secret-value) caused error")

    async with running(tmp_path, GatedEngine(), features=FEATURES) as service:
        monkeypatch.setattr(service.store, "put_profiles", full)
        monkeypatch.setattr(service.store, "forget", full)
        with caplog.at_level(logging.DEBUG):
            assert (await _post(service, _user("secret-user", likes=["secret-value"]))).status == 503
            assert (await call(build_api(service), "DELETE", "/v1/users/secret-user")).status == 503
        assert "OSError" in caplog.text and "secret" not in caplog.text


class KnowingEngine(GatedEngine):
    """Decodes to one ad for adults and one for everybody, told what is kept of users."""

    service: RecommenderService

    def answer(self, queries: Sequence[Query], schedules: Sequence[tuple[int, ...]]) -> list[Answer]:
        service = self.service
        known = KnownUsers(service.store, service.config.features, service.metrics)
        _, profiles = known.read(queries)
        plain = super().answer([q.knowing(p) for q, p in zip(queries, profiles, strict=True)], schedules)
        rules = {"adults": ADULTS}
        return [
            replace(answer, ads=[ad("adults"), ad("all")], rules=rules, profile=profile)
            for answer, profile in zip(plain, profiles, strict=True)
        ]


async def _source(service: RecommenderService, **body: Any) -> tuple[str, list[str]]:
    reply = (await call(build_api(service), "POST", "/v1/ads", {"user_id": "u", **body})).json
    return reply["served"]["source"], [found["item_id"] for found in reply["ads"]]


async def test_cached_answers_are_held_against_the_profile_and_a_posted_one_is_in_force_at_once(tmp_path: Path) -> None:
    engine, cache = KnowingEngine(), {"answer_repeats": True}
    async with running(tmp_path, engine, features=FEATURES, cache=cache) as service:
        engine.service = service
        await _post(service, _user("u", age=15))
        assert (await _source(service))[0] == "model"
        assert engine.batches[-1][0].context == (("age", 15.0),)
        assert await _source(service) == ("cache", ["all"])
        await _post(service, _user("u", age=40))
        assert (await _source(service))[0] == "model"
        assert await _source(service) == ("cache", ["adults", "all"])
        assert (await _source(service, user={"age": 12}))[0] == "model"
        assert await _source(service, user={"age": 12}) == ("cache", ["all"])
        await call(build_api(service), "DELETE", "/v1/users/u")
        assert (await _source(service))[0] == "model"
        assert await _source(service) == ("cache", ["adults", "all"])


async def test_a_fallback_that_read_no_profile_shows_nothing_that_depends_on_one(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine, features=FEATURES) as service:
        service.model.popular_ads.rules["popular-0"] = ADULTS
        late = {"deadline_ms": 10}
        engine.gate.clear()
        assert await _source(service, **late) == ("fallback", ["popular-1", "popular-2"])
        assert (await _source(service, **late, user={"age": 30}))[1][0] == "popular-0"
        assert (await _source(service, **late, user_id=None))[1][0] == "popular-0"
