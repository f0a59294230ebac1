"""The language of targeting rules: what is read, what it means, and how what is wrong is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import Field

from adbeam.errors import UserError
from adbeam.settings import Section
from adbeam.targeting.features import FeatureConfig, FeaturesSection
from adbeam.targeting.rules import read_rules, stored_rules
from adbeam.targeting.told import Context, Told

FEATURES = {
    "country": FeatureConfig(kind="category"),
    "store": FeatureConfig(kind="category"),
    "age": FeatureConfig(kind="number"),
    "interests": FeatureConfig(kind="list"),
}
MONDAY_8_UTC = int(datetime(2026, 5, 4, 8, 30, tzinfo=UTC).timestamp() * 1000)


def _holds(rules: dict[str, Any], now_ms: int = MONDAY_8_UTC, scene: str = "home", **told: Any) -> bool:
    context: Context = tuple(sorted(told.items()))
    return read_rules(rules, FEATURES).hold(Told(context, scene, now_ms))


def test_no_rules_are_for_everybody() -> None:
    assert read_rules({}, FEATURES).text is None
    assert _holds({})


def test_values_ranges_and_lists() -> None:
    assert _holds({"country": {"in": ["de", "at"]}}, country="at")
    assert not _holds({"country": {"in": ["de"]}}, country="fr")
    assert not _holds({"country": {"not_in": ["de"]}}, country="de")
    assert [age for age in (17, 18, 34, 34.5) if _holds({"age": {"from": 18, "to": 34}}, age=age)] == [18, 34]
    assert _holds({"age": {"from": 18}}, age=1e9)
    assert _holds({"interests": {"in": ["tea"]}}, interests=("wine", "tea"))
    assert not _holds({"interests": {"in": ["tea"], "not_in": ["wine"]}}, interests=("wine", "tea"))


def test_all_rules_must_hold() -> None:
    rules = {"country": {"in": ["de"]}, "age": {"from": 18}}
    assert _holds(rules, country="de", age=20)
    assert not _holds(rules, country="de", age=10)


def test_a_missing_feature_is_no_match_unless_the_rule_says_so() -> None:
    for condition in ({"in": ["7"]}, {"not_in": ["7"]}):
        assert not _holds({"store": condition})
        assert _holds({"store": {**condition, "missing": True}})
    assert not _holds({"age": {"to": 3}})
    assert _holds({"age": {"to": 3, "missing": True}})


def test_start_is_the_first_moment_and_end_the_first_after() -> None:
    window = {"start": MONDAY_8_UTC, "end": "2026-05-04T08:30:01Z"}
    assert [_holds(window, MONDAY_8_UTC + later) for later in (-1, 0, 999, 1000)] == [False, True, True, False]


def test_day_parts_are_in_the_time_zone_of_the_rule() -> None:
    assert _holds({"hours": ["mon-fri 8-9"]})
    assert not _holds({"hours": ["tue 8-9", "10-24"]})
    assert _holds({"hours": ["10-11"], "timezone": "Europe/Berlin"})
    assert _holds({"hours": ["14-15"], "timezone": "Asia/Kolkata"})  # half an hour off: 14:00 there


def test_day_parts_know_every_moment_that_a_request_may_name() -> None:
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        for now_ms in (0, 1 << 53):
            assert _holds({"hours": ["0-24"], "timezone": zone}, now_ms)


def test_scenes() -> None:
    assert _holds({"scenes": ["home"]})
    assert not _holds({"scenes": ["search"]})


def test_one_form_for_equal_rules() -> None:
    one = read_rules('{"store": {"in": [7, "5", "5"]}, "country": {"in": ["é"]}}', FEATURES)
    other = read_rules({"country": {"in": ["é"]}, "store": {"in": ["5", "7"]}}, FEATURES)
    assert one.text == other.text == '{"country":{"in":["é"]},"store":{"in":["5","7"]}}'
    full = {
        "age": {"from": 18, "missing": True}, "start": "2026-05-01", "end": "2026-06-01T00:00:00+02:00",
        "hours": ["mon-fri 7-22", "sat 10-14"], "timezone": "Europe/Berlin", "scenes": ["home"],
    }  # fmt: skip
    rules = read_rules(full, FEATURES)
    assert rules.text is not None
    assert stored_rules(rules.text) == rules


BAD: list[tuple[Any, str]] = [
    ({"nation": {"in": ["de"]}}, "targeting.nation: is no declared feature"),
    ({"contry": {"in": ["de"]}}, "did you mean 'country'"),
    ({"country": {"in": []}}, "targeting.country.in: is empty"),
    ({"country": {"not_in": []}}, "targeting.country.not_in: is empty"),
    ({"country": {}}, "says nothing"),
    ({"country": {"missing": True}}, "says nothing"),
    ({"country": "de"}, "a condition is an object"),
    ({"country": {"in": "de"}}, "targeting.country.in: is a list"),
    ({"country": {"im": ["de"]}}, "targeting.country.im"),
    ({"country": {"in": ["de"], "not_in": ["de"]}}, "nothing is left"),
    ({"country": {"from": 1}}, "a condition of the category country has in, not_in, missing"),
    ({"age": {"in": ["18"]}}, "a condition of the number age has from, to, missing"),
    ({"age": {"from": 34, "to": 18}}, "upside down"),
    ({"age": {"from": float("nan")}}, "targeting.age.from"),
    ('{"age": {"from": NaN}}', "targeting.age.from"),
    ('{"age": {"to": 1e999}}', "targeting.age.to"),
    ({"age": {"to": "34"}}, "targeting.age.to"),
    ({"age": {"to": True}}, "targeting.age.to"),
    ({"age": {"to": 10**400}}, "targeting.age.to"),
    ({"country": {"in": ["x" * 257]}}, "at most 256 bytes"),
    ({"country": {"in": ["😀" * 65]}}, "at most 256 bytes"),
    ({"country": {"in": ["\ud800"]}}, "half a surrogate"),
    ({"country": {"in": [1.5]}}, "a category is text"),
    ({"country": {"in": [True]}}, "a category is text"),
    ({"country": {"in": [None]}}, "a category is text"),
    ({"country": {"in": [str(n) for n in range(1001)]}}, "more than 1,000 values"),
    ({"country": {"in": ["de"], "missing": "yes"}}, "targeting.country.missing"),
    ({"start": "soon"}, "targeting.start: is a moment"),
    ({"start": -1}, "targeting.start: is a moment"),
    ({"start": "2026-05-02", "end": "2026-05-01"}, "targeting.end: is not after start"),
    ({"hours": ["22-6"]}, "22-24 and 0-6"),
    ({"hours": ["7-25"]}, "hours go from 0 to 24"),
    ({"hours": ["mo 7-8"]}, "mon-fri 7-22"),
    ({"hours": ["xyz 7-8"]}, "days are mon"),
    ({"hours": ["sun-mon 7-8"]}, "over Sunday"),
    ({"hours": []}, "targeting.hours: is empty"),
    ({"hours": ["7-8"], "timezone": "Mars/Olympus"}, "no such time zone"),
    ({"timezone": "UTC"}, "there are none"),
    ({"scenes": []}, "targeting.scenes: is empty"),
    ("de", "is no JSON"),
    ("[1]", "is no JSON object"),
    ("[" * 100_000, "is no JSON"),
    ("9" * 5000, "is no JSON"),
    ('{"country": {"in": ["de"]}, "country": {"in": ["at"]}}', "'country' stands twice"),
    (json.dumps({"country": {"in": ["x" * 250 for _ in range(2000)]}}), "more than 262,144 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "said"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_what_is_wrong_is_named(rules: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read_rules(rules, FEATURES)
    assert said in str(caught.value)
    assert str(caught.value).startswith("targeting")


class _Settings(Section):
    features: FeaturesSection = Field(default={})


def test_features_are_declared_by_name_and_kind() -> None:
    parsed = _Settings.parse({"features": {"age": {"kind": "number"}}}, "test.yaml")
    assert parsed.features == {"age": FeatureConfig(kind="number")}
    bad: tuple[dict[str, Any], ...] = (
        {"Age": {"kind": "number"}},
        {"start": {"kind": "number"}},
        {"age": {"kind": "float"}},
        {"age": {}},
    )
    for given in bad:
        with pytest.raises(UserError) as caught:
            _Settings.parse({"features": given}, "test.yaml")
        assert "features" in str(caught.value)
