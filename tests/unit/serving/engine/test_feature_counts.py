"""Shares of features without a value: counted by feature, no value told."""

from __future__ import annotations

from typing import Any

from adbeam.catalogue.blocked import Blocked
from adbeam.declared.encoder import FeatureEncoder, FittedFeature
from adbeam.serving.engine.channel import Gathered
from adbeam.serving.engine.feature_counts import FeatureCounts
from adbeam.serving.engine.request import Query
from adbeam.serving.monitoring.metrics import METRICS
from adbeam.targeting.features import FeatureConfig
from adbeam.targeting.told import Context

FEATURES = {"age": FeatureConfig(kind="number", source="user"), "country": FeatureConfig(kind="category")}


def _query(context: Context | None, unread: tuple[str, ...] = ()) -> Query:
    return Query("u", None, "display", 5, 0, Blocked(), context=context, unread=unread)


def _counted(features: dict[str, Any], *queries: Query) -> dict[tuple[str, str], float]:
    metrics = Gathered()
    FeatureCounts(features, metrics).count(queries)
    found = {}
    for kind, name, value, tags in metrics.taken():
        assert kind == "add" and list(tags) == ["feature"] and METRICS[name][2] == ("feature",)
        found[name.removeprefix("adbeam_feature_"), tags["feature"]] = value
    return found


def test_what_is_missing_and_what_was_not_read_are_told_apart() -> None:
    asked = (
        _query((("age", 31), ("country", "secret"))),
        _query((("country", "secret"),), unread=("age",)),
        _query(()),
        _query(None),
    )
    assert _counted(FEATURES, *asked) == {
        ("requests", "age"): 3, ("missing", "age"): 1, ("unread", "age"): 1,
        ("requests", "country"): 3, ("missing", "country"): 1,
    }  # fmt: skip


def test_nothing_is_counted_without_features_or_of_probes_alone() -> None:
    assert _counted({}, _query(())) == {}
    assert _counted(FEATURES, _query(None)) == {}


def test_words_that_the_model_does_not_know_are_counted_by_feature() -> None:
    country = FittedFeature("country", "category", "request", words=("de", "at"))
    likes = FittedFeature("likes", "list", "user", words=("tea",), columns=2)
    encoder, metrics = FeatureEncoder((country, likes)), Gathered()
    codes = encoder.codes([{"country": "de", "likes": ("secret", "tea")}, {"country": "secret"}, {}])
    assert encoder.unknown(codes) == {"country": 1, "likes": 1}
    FeatureCounts(FEATURES, metrics).unknown({"country": 1, "likes": 0})
    assert metrics.taken() == [("add", "adbeam_feature_unknown", 1, {"feature": "country"})]
