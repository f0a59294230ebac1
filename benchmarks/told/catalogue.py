"""Ads with rules over eight features, two of them with ten thousand values, and requests that tell all or some.

Shapes: N ads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from adbeam.targeting.features import FeatureConfig, Features
from adbeam.targeting.told import Told, Value

VALUES: Mapping[str, int] = {
    "store": 10_000, "postcode": 10_000, "country": 200, "os": 6, "devicetype": 7, "gender": 3, "interests": 300,
}  # fmt: skip
"""Categories of each feature that is none of numbers."""
FEATURES: Features = {
    **{name: FeatureConfig(kind="list" if name == "interests" else "category") for name in VALUES},
    "age": FeatureConfig(kind="number"),
}
LISTED: Mapping[str, int] = {
    "store": 200, "postcode": 300, "country": 40, "os": 3, "devicetype": 4, "gender": 1, "interests": 60,
}  # fmt: skip
"""Values that a condition lists at most."""
ASKED = 0.25
"""Share of the ads that ask for a feature: nine in ten ask for one at least."""
TOLD = 0.9
INTERESTS = 5


def rule_texts(ads: int, seed: int = 0) -> pa.Array:
    """Text [N]: the rules of ads, null for an ad for everybody."""
    random = np.random.default_rng(seed)
    asked_NF = random.random((ads, len(FEATURES))) < ASKED
    return pa.array([_rules(random, asked) for asked in asked_NF], pa.string())


def _rules(random: np.random.Generator, asked: np.ndarray) -> str | None:
    conditions: dict[str, Any] = {}
    for name, is_asked in zip(sorted(FEATURES), asked.tolist(), strict=True):
        if is_asked and name == "age":
            low = int(random.integers(13, 50))
            conditions[name] = {"from": low, "to": low + int(random.integers(5, 40))}
        elif is_asked:
            listed = 1 + int(random.integers(LISTED[name]))
            values = sorted({str(value) for value in random.integers(0, VALUES[name], min(listed, 8)).tolist()})
            conditions[name] = {"in" if listed % 5 else "not_in": values}
    return json.dumps(conditions) if conditions else None


def request(random: np.random.Generator) -> Told:
    """What one request tells."""
    context: dict[str, Value] = {}
    for name in sorted(FEATURES):
        if random.random() < TOLD:
            context[name] = _value(random, name)
    return Told(tuple(context.items()), "home", 0)


def _value(random: np.random.Generator, name: str) -> Value:
    if name == "age":
        return float(random.integers(13, 90))
    if name == "interests":
        return tuple(sorted({str(value) for value in random.integers(0, VALUES[name], INTERESTS).tolist()}))
    return str(random.integers(VALUES[name]))
