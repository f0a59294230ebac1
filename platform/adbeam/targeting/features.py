"""Declared features: what a request may tell and rules may ask for; one section `features` for jobs and serving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from adbeam.identity.numbers import id_of_number
from adbeam.settings import Section

MOST_FEATURES = 64
VALUE_BYTES = 256
"""No value of a feature is longer, as UTF-8."""
MOST_NUMBER = 1e15
"""No number of a feature is above it, nor below its negative."""
LIST_VALUES = 100
"""Values of one list feature in one request."""
OF_RULES = ("start", "end", "hours", "timezone", "scenes")
"""Keys of a rule that are no features."""


class FeatureConfig(Section):
    """One feature, by its name."""

    kind: Literal["category", "number", "list"] = Field(
        description="category: one word or id; number; list: several categories at once."
    )
    source: Literal["request", "user"] = Field(
        "request",
        description="request: sent in the `context` of a request; user: kept of the user by POST /v1/users, or sent in "
        "the `user` of a request.",
    )


def _no_key_of_rules(name: str) -> str:
    if name in OF_RULES:
        raise ValueError(f"{name} is a key of targeting rules itself; take another name")
    return name


FeatureName = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64), AfterValidator(_no_key_of_rules)
]
Features = Mapping[str, FeatureConfig]
FeaturesSection = Annotated[
    dict[FeatureName, FeatureConfig],
    Field(
        max_length=MOST_FEATURES,
        description="{name: {kind: category | number | list, source: request | user}}: what requests tell in "
        "`context`, what is known of users, and what rules of ads may ask for (docs/targeting.md).",
    ),
]


def category(value: object) -> str:
    """A category as it is compared: text as it is, whole numbers as digits; raises ValueError for anything else."""
    text = id_of_number(value) or value
    if not isinstance(text, str) or not text:
        raise ValueError("a category is text, or a whole number")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError("a category is text, and half a surrogate pair is none") from None
    if size > VALUE_BYTES:
        raise ValueError(f"a category has at most {VALUE_BYTES} bytes, this one {size:,}")
    return text
