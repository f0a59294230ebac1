"""Buckets of declared features in words: what a model hears of a value, for people who ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adbeam.declared.encoder import FIRST, MISSING, UNKNOWN, FeatureEncoder, FittedFeature
from adbeam.targeting.features import Features
from adbeam.targeting.told import Value


def bucket(feature: FittedFeature, code: int) -> str:
    """A code in words: "missing", "unknown", a word of the vocabulary, "hash 17", or the range of a number, whose first
    end belongs to it."""
    if code in (MISSING, UNKNOWN):
        return "missing" if code == MISSING else "unknown"
    place = code - FIRST
    if feature.edges is not None:
        edges = [f"{edge:g}" for edge in feature.edges]
        if not edges:
            return "any number"
        if place == 0:
            return f"below {edges[0]}"
        return f"from {edges[-1]}" if place == len(edges) else f"{edges[place - 1]} to {edges[place]}"
    return f"hash {place}" if feature.words is None else feature.words[place]


def told_in_words(
    features: Features, encoder: FeatureEncoder | None, values: Mapping[str, Value], unread: Sequence[str]
) -> list[dict[str, Any]]:
    """{"feature", "value", "is_unread", "buckets"} of every declared feature: the value is null where it is missing,
    `buckets` where the model is not told the feature."""
    fitted = {one.name: one for one in encoder.features} if encoder else {}
    found = []
    for name in features:
        value, one = values.get(name), fitted.get(name)
        row: dict[str, Any] = {"feature": name, "value": value, "is_unread": name in unread, "buckets": None}
        if one is not None:
            (codes,) = one.encode([value]).tolist()
            heard = [code for code in codes if code != MISSING] or [MISSING]
            row["buckets"] = [bucket(one, code) for code in heard]
        found.append(row)
    return found
