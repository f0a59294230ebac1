"""A bundle and the settings that serve it must mean the same features; what differs is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from adbeam.declared.agreement import OtherFeatures, check_told
from adbeam.declared.encoder import FeatureEncoder, FittedFeature
from adbeam.targeting.features import FeatureConfig

BUNDLE = FeatureEncoder((FittedFeature("os", "category", "request", words=("ios",)),))


def declared(**settings: Any) -> dict[str, FeatureConfig]:
    return {"os": FeatureConfig(**{"kind": "category", "model": True, **settings})}


@pytest.mark.parametrize("settings", [{}, {"column": "system"}, {"least_requests": 9}])
def test_what_only_the_log_needs_may_differ(settings: dict[str, Any]) -> None:
    check_told(BUNDLE, "b1", declared(**settings))
    check_told(None, "b1", {"country": FeatureConfig(kind="category")})


@pytest.mark.parametrize(
    ("told", "features", "words"),
    [
        (BUNDLE, {}, "features.os: .*b1 is told it .kind: category.*declare it"),
        (BUNDLE, {"os": FeatureConfig(kind="category")}, "features.os: .*not declared so here"),
        (BUNDLE, declared(kind="number"), "features.os: .*told it as kind: category.*got 'kind: number"),
        (BUNDLE, declared() | {"age": FeatureConfig(kind="number", model=True)}, "features.age: .*is not told it"),
        (None, declared(), "features.os: .*is not told it.*set model: false"),
    ],
)
def test_what_differs_is_refused_by_name(
    told: FeatureEncoder | None, features: dict[str, FeatureConfig], words: str
) -> None:
    with pytest.raises(OtherFeatures, match=words):
        check_told(told, "b1", features)
