"""Random rules and requests over every kind of condition, for property tests of targeting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from adbeam.targeting.features import FeatureConfig
from adbeam.targeting.rules import read_rules
from adbeam.targeting.told import Told, Value

FEATURES = {
    "country": FeatureConfig(kind="category"),
    "store": FeatureConfig(kind="category"),
    "age": FeatureConfig(kind="number"),
    "interests": FeatureConfig(kind="list"),
}
COUNTRIES = ("de", "at", "fr", 'q"\\\n', "é😀")
STORES = tuple(str(number) for number in range(400))
INTERESTS = ("tea", "wine", "bread", "soap")
SCENES = ("home", "search", "cart")
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata")
HOURS = ("mon-fri 7-22", "sat 10-14", "0-12", "sun 20-24", "12-24")
NOW_MS = 1_777_000_000_000
WEEK_MS = 7 * 86_400_000


def random_text(rng: np.random.Generator) -> str | None:
    """Rules in their one form, or None: a third of all ads is for everybody."""
    if rng.random() < 1 / 3:
        return None
    rules: dict[str, Any] = {}
    for name, values in (("country", COUNTRIES), ("store", STORES), ("interests", INTERESTS)):
        if rng.random() < 0.3:
            rules[name] = _condition(rng, values)
    if rng.random() < 0.3:
        low, high = sorted(int(bound) for bound in rng.integers(10, 80, 2))
        rules["age"] = [{"from": low, "to": high}, {"from": low}, {"to": high + 0.5}][int(rng.integers(3))]
        if rng.random() < 0.3:
            rules["age"]["missing"] = True
    if rng.random() < 0.2:
        start = NOW_MS + int(rng.integers(-WEEK_MS, WEEK_MS))
        rules |= [{"start": start}, {"end": start}, {"start": start, "end": start + 86_400_000}][int(rng.integers(3))]
    if rng.random() < 0.2:
        rules["hours"] = [str(part) for part in rng.choice(HOURS, 2)]
        rules["timezone"] = str(rng.choice(ZONES))
    if rng.random() < 0.2:
        rules["scenes"] = [str(scene) for scene in rng.choice(SCENES, int(rng.integers(1, 3)))]
    return read_rules(rules, FEATURES).text


def random_told(rng: np.random.Generator) -> Told:
    """A request; every feature is missing now and then, and some values are in no rule."""
    given: dict[str, Value] = {
        "age": float(rng.integers(5, 90)),
        "country": str(rng.choice([*COUNTRIES, "us"])),
        "interests": tuple(str(value) for value in rng.choice([*INTERESTS, "golf"], 2, replace=False)),
        "store": str(rng.integers(0, 500)),
    }
    context = tuple((name, value) for name, value in sorted(given.items()) if rng.random() < 0.8)
    return Told(context, str(rng.choice(SCENES)), NOW_MS + int(rng.integers(-WEEK_MS, WEEK_MS)))


def random_unread(rng: np.random.Generator) -> Told:
    """A request as `random_told` makes them; some of what it lacks was not read."""
    told = random_told(rng)
    lacking = [name for name in FEATURES if name not in told.features]
    return replace(told, unread=tuple(name for name in lacking if rng.random() < 0.5))


def _condition(rng: np.random.Generator, values: tuple[str, ...]) -> dict[str, Any]:
    size = int(rng.integers(1, 4))
    found: dict[str, Any] = {("in" if rng.random() < 0.7 else "not_in"): [str(v) for v in rng.choice(values, size)]}
    if rng.random() < 0.3:
        found["missing"] = True
    return found
