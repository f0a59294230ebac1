"""Privacy signals over the HTTP border: both places of OpenRTB, fields of our own routes, and what is counted."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.support.asgi import Reply, call
from tests.support.echo_service import EVENT
from tests.support.serving.consent_strings import VENDOR, gpp_string, tc_string, vendors
from tests.support.serving.gated_engine import GatedEngine, running

from adbeam.consent.signals import REASONS
from adbeam.serving.http.app import build_api
from adbeam.serving.service import RecommenderService

YES, NO = tc_string(), tc_string(consent=vendors([]))
SOLD, KEPT = gpp_string({7: "BVQVAAAAAgA.QA"}), gpp_string({7: "BVQqAAAAAgA.QA"})
BID: dict[str, Any] = {"id": "r", "imp": [{"id": "1", "tagid": "feed", "banner": {"w": 300, "h": 250}}], "tmax": 2000}
PRIVACY = {"vendor_id": VENDOR}


async def _post(service: RecommenderService, route: str, body: dict[str, Any]) -> Reply:
    return await call(build_api(service), "POST", f"/v1/{route}", body)


def _counts(service: RecommenderService, name: str) -> dict[str, float]:
    found = service.metrics.take()[0]  # type: ignore[attr-defined]
    return {tags[0][1]: count for (metric, tags), count in found.items() if metric == name}


def _with(user: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {**BID, "user": {"id": "u17", **(user or {})}, **fields}


@pytest.mark.parametrize(
    ("reason", "bid"),
    [
        ("gdpr_no_consent_string", _with(regs={"gdpr": 1})),
        ("gdpr_no_consent_string", _with({"ext": {"consent": ""}}, regs={"ext": {"gdpr": 1}})),
        ("gdpr_no_consent_string", _with(regs={"ext": {"gdpr": "1"}})),
        ("gdpr_no_consent_string", _with(regs={"gdpr": True})),
        ("gdpr_no_consent_string", _with({"consent": None, "ext": {"consent": None}}, regs={"gdpr": 1.0})),
        ("tcf_vendor", _with({"consent": NO}, regs={"gdpr": 1})),
        ("tcf_vendor", _with({"ext": {"consent": NO}}, regs={"ext": {"gdpr": 1}})),
        ("tcf_vendor", _with({"consent": YES, "ext": {"consent": NO}}, regs={"gdpr": 1})),
        ("tcf_vendor", _with({"consent": NO})),
        ("tcf_unreadable", _with({"consent": "damaged"}, regs={"gdpr": 1})),
        ("tcf_unreadable", _with({"consent": [YES]}, regs={"gdpr": 1})),
        ("tcf_unreadable", _with({"consent": "C" * 1_000_000}, regs={"gdpr": 1})),
        ("us_privacy", _with(regs={"us_privacy": "1YYN"})),
        ("us_privacy", _with(regs={"ext": {"us_privacy": "1YYN"}})),
        ("us_privacy_unreadable", _with(regs={"us_privacy": "yes"})),
        ("us_sale", _with(regs={"gpp": SOLD, "gpp_sid": [7]})),
        ("us_sale", _with(regs={"ext": {"gpp": SOLD, "gpp_sid": [7]}})),
        ("us_sale", _with(regs={"gpp": SOLD})),
        ("gpp_missing", _with(regs={"gpp_sid": [7]})),
        ("gpp_unreadable", _with(regs={"gpp": "damaged", "gpp_sid": [7]})),
        ("gpc", _with(regs={"ext": {"gpc": "1"}})),
        ("coppa", _with(regs={"coppa": 1})),
        ("lmt", _with(device={"lmt": 1})),
        ("dnt", _with(device={"dnt": "1"})),
        ("signals_unreadable", _with(regs="gdpr=1")),
        ("signals_unreadable", _with(regs={"ext": "gdpr=1"})),
        ("signals_unreadable", _with({"ext": "consent=" + NO})),
        ("coppa", _with(regs={"coppa": 1}, tmax="2000")),  # read field by field
        ("tcf_vendor", _with({"consent": NO, "id": 17}, regs={"gdpr": 1})),
    ],
)
async def test_bid_requests_whose_user_is_nobody(tmp_path: Path, reason: str, bid: dict[str, Any]) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine, privacy=PRIVACY) as service:
        reply = await _post(service, "openrtb", bid)
        assert reply.status == 200 and reply.json["seatbid"]
        assert [query.user_id for batch in engine.batches for query in batch] == [None]
        assert _counts(service, "adbeam_forbidden_users") == {reason: 1} and reason in REASONS


@pytest.mark.parametrize(
    "bid",
    [
        _with(),
        _with({"consent": YES}, regs={"gdpr": 1}),
        _with({"ext": {"consent": YES}}, regs={"ext": {"gdpr": 1}}),
        _with({"consent": NO}, regs={"gdpr": 0}),
        _with({"consent": "", "ext": {}}, regs={"gdpr": 0, "coppa": 0, "us_privacy": "1YNN", "ext": {}}),
        _with({"ext": None}, regs={"gpp": KEPT, "gpp_sid": [7]}, device={"lmt": 0, "dnt": 0, "ip": "10.0.0.1"}),
        _with(regs=[], device=None),
        _with({"ext": {"eids": []}}, regs={"ext": []}),
    ],
)
async def test_bid_requests_whose_user_is_looked_up(tmp_path: Path, bid: dict[str, Any]) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine, privacy=PRIVACY) as service:
        assert (await _post(service, "openrtb", bid)).status == 200
        assert [query.user_id for batch in engine.batches for query in batch] == ["u17"]
        assert _counts(service, "adbeam_forbidden_users") == {}


async def test_impressions_of_many_scenes_are_one_person(tmp_path: Path) -> None:
    async with running(tmp_path, GatedEngine(), privacy=PRIVACY) as service:
        imps = [{"id": str(place), "tagid": tag} for place, tag in enumerate(["feed", "empty", "feed"])]
        await _post(service, "openrtb", _with(imp=imps, regs={"gdpr": 1}))
        assert _counts(service, "adbeam_forbidden_users") == {"gdpr_no_consent_string": 1}


@pytest.mark.parametrize(
    ("reason", "privacy"),
    [
        ("gdpr_no_consent_string", {"gdpr": True}),
        ("gdpr_no_consent_string", {"gdpr": 1, "tcf": ""}),
        ("tcf_vendor", {"gdpr": 1, "tcf": NO}),
        ("tcf_unreadable", {"tcf": "damaged"}),
        ("us_sale", {"gpp": SOLD, "gpp_sid": [7]}),
        ("us_privacy", {"us_privacy": "1YYN"}),
        ("coppa", {"coppa": True}),
        ("lmt", {"lmt": 1}),
        ("dnt", {"dnt": 1}),
        ("gpc", {"gpc": True}),
        (None, {}),
        (None, {"gdpr": 1, "tcf": YES}),
        (None, {"gdpr": False, "tcf": NO, "coppa": 0, "lmt": None, "gpp": KEPT, "gpp_sid": [7], "us_privacy": "1YNN"}),
    ],
)
async def test_ads_events_and_users_by_their_own_fields(
    tmp_path: Path, reason: str | None, privacy: dict[str, Any]
) -> None:
    engine = GatedEngine()
    features = {"age": {"kind": "number", "source": "user"}}
    async with running(tmp_path, engine, privacy=PRIVACY, features=features) as service:
        past = [{"item_id": "i", "timestamp": 5}]
        asked = {"user_id": "u17", "history": past, "user": {"age": 31}, "privacy": privacy}
        assert (await _post(service, "ads", asked)).status == 200
        (query,) = engine.batches[-1]
        told = (query.user_id, query.history is not None, query.context, query.unread)
        assert told == ((None, False, (), ()) if reason else ("u17", True, (("age", 31.0),), ()))
        events = [{**EVENT, "user_id": "u17", "privacy": privacy}, {**EVENT, "event_id": "f", "user_id": "u18"}]
        reply = await _post(service, "events", {"events": events})
        kept = {"accepted": 1, "duplicates": 0, "forbidden": 1} if reason else {"accepted": 2, "duplicates": 0}
        assert (reply.status, reply.json) == (202, kept)
        users = [{"user_id": "u17", "profile": {"age": 31}, "privacy": privacy}, {"user_id": "null", "profile": {}}]
        reply = await _post(service, "users", {"users": users})
        counts = {"stored": 0, "removed": 0, "nobody": 1, "forbidden": 1}
        assert reply.json == (counts if reason else {"stored": 1, "removed": 0, "nobody": 1})
        known = service.store.known_many(["u17"])[0]
        assert (known.history is None, known.profile is None) == (reason is not None, reason is not None)
        assert _counts(service, "adbeam_forbidden_users") == ({reason: 3} if reason else {})


@pytest.mark.parametrize(
    ("privacy", "field"),
    [
        ({"tcf": "C" * 1_000_000}, "privacy.tcf"),
        ({"gpp": "D" * 9000}, "privacy.gpp"),
        ({"us_privacy": 1}, "privacy.us_privacy"),
        ({"gdpr": "1"}, "privacy.gdpr"),
        ({"gdpr": 2}, "privacy.gdpr"),
        ({"gpp_sid": list(range(65))}, "privacy.gpp_sid"),
        ({"gpp_sid": ["7"]}, "privacy.gpp_sid.0"),
        ({"consent": YES}, "privacy.consent"),
        ("1YNN", "privacy"),
    ],
)
async def test_a_field_that_is_none_is_refused_by_name(tmp_path: Path, privacy: Any, field: str) -> None:
    async with running(tmp_path, GatedEngine(), privacy=PRIVACY) as service:
        bodies = {
            "ads": ("", {"privacy": privacy}),
            "events": ("events.0.", {"events": [{**EVENT, "privacy": privacy}]}),
            "users": ("users.0.", {"users": [{"user_id": "u", "profile": {}, "privacy": privacy}]}),
        }
        for route, (place, body) in bodies.items():
            reply = await _post(service, route, body)
            assert reply.status == 422 and reply.json["errors"][0]["field"].startswith(place + field)
            assert len(reply.body) < 4000


async def test_without_settings_gdpr_forbids_and_no_signal_is_as_before(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine) as service:
        await _post(service, "openrtb", _with({"consent": YES}, regs={"gdpr": 1}))
        await _post(service, "openrtb", _with())
        assert [query.user_id for batch in engine.batches for query in batch] == [None, "u17"]
        assert _counts(service, "adbeam_forbidden_users") == {"gdpr_no_vendor_id": 1}


async def test_a_test_of_ext_nested_deep_is_refused(tmp_path: Path) -> None:
    deep = b'{"a":' * 1000 + b"1" + b"}" * 1000
    body = b'{"id":"r","imp":[{"id":"1"}],"user":{"id":"u17","ext":' + deep + b"}}"
    async with running(tmp_path, GatedEngine(), privacy=PRIVACY) as service:
        assert (await call(build_api(service), "POST", "/v1/openrtb", body)).status == 400


VALUES: list[Any] = [
    None, 0, 1, -1, 2, 0.5, True, False, "", "0", "1", "yes", "1YNN", "1YYN", "DBAA", SOLD, KEPT, YES, NO, YES[:40], [],
    [1], [7], ["7"], [None], [[]], {}, {"gdpr": 1}, {"ext": {"gdpr": 1}}, "é" * 300, "D" * 9000, 10**400, 1e308,
    "\x00", "~" * 500, "." * 500, [2] * 100, "2_6",
]  # fmt: skip
FIELDS = ("gdpr", "gpp", "gpp_sid", "us_privacy", "coppa", "gpc")


async def test_whatever_stands_for_signals_a_bid_request_is_answered(tmp_path: Path) -> None:
    """Mutated signals: an answer always, by the known user's only where every signal that is told can be read."""
    draw = random.Random(7)
    engine = GatedEngine()
    async with running(tmp_path, engine, privacy=PRIVACY) as service:
        for _ in range(400):
            regs = {name: draw.choice(VALUES) for name in FIELDS if draw.random() < 0.2}
            bid = {
                **BID,
                "regs": draw.choice([regs, regs, {"ext": regs}, {"ext": regs}, {}, draw.choice(VALUES)]),
                "user": {"id": "u17", "consent": draw.choice([None, YES, draw.choice(VALUES)])},
                "device": draw.choice([None, {}, {"lmt": 0, "dnt": draw.choice(VALUES)}]),
            }
            bid["user"]["ext"] = draw.choice([None, {}, {"consent": draw.choice(VALUES)}, draw.choice(VALUES)])
            reply = await _post(service, "openrtb", bid)
            assert reply.status == 200, bid
        reasons = _counts(service, "adbeam_forbidden_users")
        users = [query.user_id for batch in engine.batches for query in batch]
    assert set(reasons) <= set(REASONS) and len(reasons) >= 8
    assert users.count(None) == sum(reasons.values()) and 20 < users.count("u17") == len(users) - users.count(None)
