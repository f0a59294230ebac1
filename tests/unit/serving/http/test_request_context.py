"""The context and the user of a request: what is told, and how what is wrong is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from adbeam.serving.config import DeadlineConfig, LimitsConfig, ServingConfig
from adbeam.serving.http.problems import validation_problem
from adbeam.serving.http.schemas import AdRequest, request_model
from adbeam.targeting.told import Context

KINDS = {
    "country": "category", "os": "category", "devicetype": "number", "language": "list", "age": "number",
    "interests": "list", "json": "category", "copy": "category",
}  # fmt: skip
CONFIG = ServingConfig.parse({"features": {name: {"kind": kind} for name, kind in KINDS.items()}})
MODEL = request_model(LimitsConfig(), DeadlineConfig(), ("home",), features=CONFIG.features)


def _told(model: type[AdRequest] = MODEL, **context: Any) -> Context | None:
    return model.model_validate_json(json.dumps({"context": context})).query("home", 0).context


def test_what_is_told_is_in_one_form() -> None:
    told = _told(country=276, age=31, interests=["wine", "tea", "tea", 5], json="x", copy=None, language=[])
    assert told == (("age", 31), ("country", "276"), ("interests", ("5", "tea", "wine")), ("json", "x"))
    assert MODEL.model_validate_json("{}").query("home", 0).context == ()


@pytest.mark.parametrize(
    ("context", "field", "said"),
    [
        ({"nation": "de"}, "context.nation", "not permitted"),
        ({"country": "x" * 257}, "context.country", "at most 256 bytes"),
        ({"country": "\U0001f600" * 65}, "context.country", "at most 256 bytes"),
        ({"country": ["de"]}, "context.country", "a category is text"),
        ({"country": True}, "context.country", "a category is text"),
        ({"country": ""}, "context.country", "a category is text"),
        ({"country": 1.5}, "context.country", "a category is text"),
        ({"age": "31"}, "context.age", "valid number"),
        ({"age": float("nan")}, "context.age", "finite"),
        ({"age": 1e16}, "context.age", "less than or equal"),
        ({"interests": "tea"}, "context.interests", "valid array"),
        ({"interests": ["tea", None]}, "context.interests.1", "a category is text"),
        ({"interests": [str(number) for number in range(101)]}, "context.interests", "at most 100"),
    ],
)
def test_what_is_wrong_is_named(context: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _told(**context)
    (error,) = validation_problem(caught.value).errors
    assert error["field"] == field and said in error["message"]


def test_where_no_feature_is_declared_every_one_is_refused_by_name() -> None:
    plain = request_model(LimitsConfig(), DeadlineConfig(), ("home",))
    assert _told(plain) == ()
    with pytest.raises(ValidationError) as caught:
        _told(plain, country="de")
    assert validation_problem(caught.value).errors[0]["field"] == "context.country"


OF_USERS = {"age": {"kind": "number", "source": "user"}, "gender": {"kind": "category", "source": "user"}}
WITH_USERS = ServingConfig.parse({"features": {"country": {"kind": "category"}, **OF_USERS}})
USER_MODEL = request_model(LimitsConfig(), DeadlineConfig(), ("home",), features=WITH_USERS.features)


@pytest.mark.parametrize(
    ("body", "context", "unread"),
    [
        ({"user_id": "u"}, (), ("age", "gender")),
        ({"user_id": "u", "user": {"age": 31}}, (("age", 31),), ("gender",)),
        (
            {"user_id": "u", "user": {"age": None}, "context": {"country": "de"}},
            (("country", "de"),),
            ("age", "gender"),
        ),
        ({"user_id": "u", "user": {"gender": "F", "age": 31}}, (("age", 31), ("gender", "F")), ()),
        ({"user_id": "null", "user": {"age": 31}}, (("age", 31),), ()),
        ({}, (), ()),
    ],
)
def test_the_user_of_a_request_is_told_beside_its_context_and_the_rest_may_be_kept(
    body: dict[str, Any], context: Context, unread: tuple[str, ...]
) -> None:
    query = USER_MODEL.model_validate_json(json.dumps(body)).query("home", 0)
    assert (query.context, query.unread) == (context, unread)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"context": {"age": 31}}, "context.age"),
        ({"user": {"country": "de"}}, "user.country"),
        ({"user": {"age": "31"}}, "user.age"),
        ({"user": "u"}, "user"),
    ],
)
def test_a_feature_in_the_wrong_place_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        USER_MODEL.model_validate_json(json.dumps(body))
    assert validation_problem(caught.value).errors[0]["field"] == field
