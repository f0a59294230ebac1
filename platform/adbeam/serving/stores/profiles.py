"""Profiles of users: the declared features that are kept of a user beside the history.

A profile is kept as one JSON object, and is only what the declarations of now can read: a feature that is declared no
longer, or as another kind, is as if absent.
"""

from __future__ import annotations

import json
from typing import Any

from adbeam.targeting.features import FeatureConfig, Features, category
from adbeam.targeting.told import Context, Value


def of_source(features: Features, source: str) -> dict[str, FeatureConfig]:
    """The features of one source: those of `user` are kept of users."""
    return {name: feature for name, feature in features.items() if feature.source == source}


def profile_text(profile: Context) -> str:
    """A profile as it is kept; empty for one that tells nothing."""
    return json.dumps(dict(profile), ensure_ascii=False, separators=(",", ":")) if profile else ""


def read_profile(text: str | None, features: Features) -> Context:
    """What a kept profile tells of `features`, in the order of names; nothing where there is none."""
    if text is None:
        return ()
    kept = json.loads(text)
    read = ((name, _read(kept.get(name), feature)) for name, feature in sorted(features.items()))
    return tuple((name, value) for name, value in read if value is not None)


def _read(value: Any, feature: FeatureConfig) -> Value | None:
    """A value as its declaration has it; None for one that was kept as another kind."""
    if feature.kind == "list":
        return tuple(map(str, value)) if isinstance(value, list) else None
    if feature.kind == "number":
        return value if isinstance(value, int | float) else None
    return category(value) if isinstance(value, str) and value else None
