"""What a bid request tells of declared features: at default places, at given ones, and nothing of who is private."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from adbeam.errors import UserError
from adbeam.identity.people import NOBODY_WORDS
from adbeam.serving.bid_features import features_of_bid, places_of
from adbeam.serving.config import DeadlineConfig, LimitsConfig, ServingConfig
from adbeam.serving.engine.channel import Gathered
from adbeam.serving.http.bid_reading import read_bid_request
from adbeam.serving.http.openrtb import bid_model, slots
from adbeam.serving.http.schemas import request_model

KINDS = {"country": "category", "os": "category", "devicetype": "number", "language": "list", "json": "category"}
CONFIG = ServingConfig.parse({"features": {name: {"kind": kind} for name, kind in KINDS.items()}})
MODEL = request_model(LimitsConfig(), DeadlineConfig(), ("home",), features=CONFIG.features)
OF_USERS: dict[str, Any] = {
    "age": {"kind": "number", "source": "user"},
    "gender": {"kind": "category", "source": "user"},
    "content_category": {"kind": "list"},
}
USERS = ServingConfig.parse({"features": OF_USERS})
YEAR = datetime.now(UTC).year
PERSON = {"id": "u", "yob": YEAR - 31, "gender": "F", "data": [{"id": "x"}]}


class _Bidder:
    scenes, may_bid, nobody_words = ("home",), True, NOBODY_WORDS


def _of_bid(config: ServingConfig = CONFIG, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """(fields of the AdRequest, fields of the bid request that were not read)."""
    metrics = Gathered()
    body = json.dumps({"id": "r", "imp": [{"id": "1"}], **fields}).encode()
    model = bid_model(config.limits, config.features, config.openrtb.features)
    request = read_bid_request(body, model, config.limits, metrics)
    (part,) = slots(request, _Bidder(), config, metrics)
    return part.fields, [tags["field"] for _, _, _, tags in metrics.taken() if "field" in tags]


DEVICE = {"os": "iOS", "devicetype": 4, "language": "de", "geo": {"country": "DEU", "region": "BE"}, "ua": "x"}


def test_a_bid_request_tells_what_is_declared() -> None:
    wanted = {"os": "iOS", "devicetype": 4.0, "language": ["de"], "country": "DEU"}
    fields, unread = _of_bid(device=DEVICE)
    assert fields["context"] == wanted and not unread
    told = MODEL.model_validate(fields).query("home", 0).context
    assert told == (("country", "DEU"), ("devicetype", 4.0), ("language", ("de",)), ("os", "iOS"))
    again, unread = _of_bid(device=DEVICE, tmax="100")  # read field by field
    assert again["context"] == wanted and not unread


def test_what_cannot_be_read_of_a_device_is_missing_and_counted() -> None:
    fields, unread = _of_bid(device={"os": {"name": "iOS"}, "devicetype": "phone", "geo": "DEU", "language": ""})
    assert fields["context"] == {} and unread == ["device.os", "device.devicetype"]
    assert _of_bid(device="phone") == _of_bid()


def test_without_features_a_bid_request_asks_as_before() -> None:
    fields, unread = _of_bid(ServingConfig(), device=DEVICE)
    assert "context" not in fields and not unread


def test_a_user_and_a_page_tell_what_is_declared() -> None:
    for more in ({}, {"tmax": "100"}):  # read whole, and field by field
        fields, unread = _of_bid(USERS, user=PERSON, site={"cat": ["IAB1", "IAB2-3"]}, **more)
        assert fields["user_id"] == "u" and not unread
        assert (fields["context"], fields["user"]) == (
            {"content_category": ["IAB1", "IAB2-3"]},
            {"age": 31.0, "gender": "F"},
        )
    assert _of_bid(USERS, app={"cat": ["IAB9"]})[0]["context"] == {"content_category": ["IAB9"]}
    model = request_model(LimitsConfig(), DeadlineConfig(), ("home",), features=USERS.features)
    query = model.model_validate(fields).query("home", 0)
    assert query.context == (("age", 31.0), ("content_category", ("IAB1", "IAB2-3")), ("gender", "F"))


@pytest.mark.parametrize(
    ("user", "field"),
    [
        ({"yob": "long ago"}, "user.yob"),
        ({"yob": YEAR + 1}, "user.yob"),
        ({"yob": 1850}, "user.yob"),
        ({"yob": True}, "user.yob"),
        ({"yob": 1990.5}, "user.yob"),
        ({"yob": 10**400}, "user.yob"),
        ({"gender": {"is": "F"}}, "user.gender"),
        ({"gender": "x" * 10_000}, "user.gender"),
    ],
)
def test_what_cannot_be_read_of_a_user_is_missing_and_counted(user: dict[str, Any], field: str) -> None:
    fields, unread = _of_bid(USERS, user={"id": "u", **user})
    assert fields["user"] == {} and fields["user_id"] == "u" and unread == [field]
    assert _of_bid(USERS, user={"yob": str(YEAR - 5), "gender": None})[0]["user"] == {"age": 5.0}


def test_of_a_list_only_what_cannot_be_read_is_left_out_and_it_is_bounded() -> None:
    fields, unread = _of_bid(USERS, site={"cat": ["IAB1", None, "x" * 300, "IAB1", 7]})
    assert fields["context"] == {"content_category": ["IAB1", "7"]} and unread == ["site.cat"] * 2
    fields, unread = _of_bid(USERS, site={"cat": [f"IAB{n}" for n in range(500)]})
    assert len(fields["context"]["content_category"]) == 100 and unread == ["site.cat"]


@pytest.mark.parametrize(
    "flags",
    [{"regs": {"coppa": 1}}, {"device": {"lmt": 1}}, {"device": {"dnt": True}}, {"regs": {"coppa": "1"}},
     {"device": {"lmt": {"is": 1}}}],
)  # fmt: skip
def test_a_private_user_is_nobody(flags: dict[str, Any]) -> None:
    for config in (USERS, ServingConfig()):
        fields, _ = _of_bid(config, user={**PERSON, "buyeruid": "b"}, site={"cat": ["IAB1"]}, **flags)
        assert fields["user_id"] is None and fields.get("user", {}) == {}
    told, _ = _of_bid(USERS, user=PERSON, site={"cat": ["IAB1"]}, **flags)
    assert told["context"] == {"content_category": ["IAB1"]}


@pytest.mark.parametrize("flags", [{"regs": {"coppa": 0}}, {"device": {"lmt": 0, "dnt": False}}, {"regs": None}])
def test_a_flag_that_is_not_set_hides_nobody(flags: dict[str, Any]) -> None:
    fields, _ = _of_bid(USERS, user=PERSON, **flags)
    assert fields["user_id"] == "u" and fields["user"] == {"age": 31.0, "gender": "F"}


def test_given_places_win_and_null_takes_a_default_out() -> None:
    places = {"age": None, "gender": ["user.ext.sex", "user.gender"], "segment": "user.ext.segment"}
    features = {**OF_USERS, "segment": {"kind": "category"}}
    config = ServingConfig.parse({"features": features, "openrtb": {"features": places}})
    fields, unread = _of_bid(config, user={**PERSON, "ext": {"segment": 12, "sex": ""}})
    assert (fields["context"], fields["user"]) == ({"segment": "12"}, {"gender": "F"}) and not unread
    private, _ = _of_bid(config, user={**PERSON, "ext": {"segment": 12}}, regs={"coppa": 1})
    assert private["context"] == {}
    again = ServingConfig.parse(config.model_dump(mode="json"))
    assert again.openrtb == config.openrtb


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (
            {"gendre": "user.gender"},
            "openrtb.features.gendre is the place of no declared feature: did you mean 'gender'",
        ),
        ({"gender": "imp.gender"}, "openrtb.features.gender"),
        ({"gender": "user"}, "openrtb.features.gender"),
    ],
)
def test_a_place_that_is_wrong_is_named(places: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        ServingConfig.parse({"features": OF_USERS, "openrtb": {"features": places}})
    assert said in str(caught.value)


def test_the_parts_of_a_bid_request_that_tell_nothing_are_not_kept() -> None:
    plain = bid_model(LimitsConfig())
    assert not {"site", "app"} & set(plain.model_fields)
    read = plain.model_validate({"id": "r", "imp": [{"id": "1"}], "user": PERSON, "site": {"cat": ["IAB1"]}})
    assert read.model_extra is None and read.user is not None and read.user.model_extra is None


def test_an_age_is_counted_from_the_given_year() -> None:
    request = {"user": {"yob": 1990}}
    places = places_of(USERS.features, {})
    assert features_of_bid(request, USERS.features, places, Gathered(), 2026)["user"] == {"age": 36.0}
