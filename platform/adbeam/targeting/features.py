"""Declared features: what a request may tell and rules may ask for; one section `features` for jobs and serving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

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
_OF_MODEL = ("column", "buckets", "most_words", "least_requests", "longest", "separator", "dimensions", "parts")
"""Keys that mean something only where the model is told."""
_CODES = {"number": "quantiles", "vector": "centres"}
_YOUNG = frozenset({"model", "partition", *_OF_MODEL})


class FeatureConfig(Section):
    """One feature, by its name."""

    kind: Literal["category", "number", "list", "vector"] = Field(
        description="category: one word or id; number; list: several categories at once; vector: numbers that mean "
        "something together only, of an item."
    )
    source: Literal["request", "user", "item"] = Field(
        "request",
        description="request: sent in the `context` of a request; user: kept of the user by POST /v1/users, or sent in "
        "the `user` of a request; item: a column of the catalogue, for the model alone.",
    )
    model: bool = Field(
        False, description="true: the model learns from it (docs/declared-features.md); false: only rules ask for it."
    )
    partition: bool = Field(
        False,
        description="true: an ad without a rule over it is for nobody, a request without it gets no ad: retailer, "
        "country, account (docs/targeting.md).",
    )
    column: str | None = Field(
        None,
        min_length=1,
        description="Of a feature that the model is told: its column of the log, or of the "
        "catalogue; default: its name.",
    )
    buckets: int | None = Field(
        None,
        ge=2,
        le=1_000_000,
        description="Of a number: quantiles of the training split (default 16). Of a category or list: hash the values "
        "into so many instead of keeping a vocabulary. Of a vector: centres of each part (default 64).",
    )
    most_words: int = Field(10_000, ge=1, le=1_000_000, description="Most frequent values that a vocabulary keeps.")
    least_requests: int = Field(
        2, ge=1, description="Training requests that a value must be in; rarer ones count as unknown, and teach it."
    )
    longest: int = Field(
        8, ge=1, le=LIST_VALUES, description="Values of a list that the model hears, the most frequent ones first."
    )
    separator: str = Field(
        "|", min_length=1, max_length=8, description="Between the values of a list where the log holds text."
    )
    dimensions: int | None = Field(None, ge=1, le=4096, description="Numbers of a vector.")
    parts: int = Field(
        4, ge=1, le=64, description="Equal parts that a vector is cut into; the model hears of each what it is near to."
    )

    @model_serializer(mode="wrap")
    def _without_YOUNG_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys younger than prepared folders count only where they are set, so that those folders stay current."""
        values: dict[str, Any] = plain(self)
        fields = type(self).model_fields
        return {key: value for key, value in values.items() if key not in _YOUNG or value != fields[key].default}

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Self:
        set_here = self.model_fields_set
        for key in _OF_MODEL:
            if key in set_here and not self.model:
                raise ValueError(f"{key} is for features that the model is told; set model: true, or remove it")
        if self.kind in ("number", "vector") and set_here & {"most_words", "least_requests"}:
            raise ValueError(f"a {self.kind} has no vocabulary; name its {_CODES[self.kind]} by buckets")
        if self.partition and self.kind == "number":
            raise ValueError("a partition is a category, or a list of them; a number names none")
        if self.kind != "list" and set_here & {"longest", "separator"}:
            raise ValueError("longest and separator are for lists")
        if self.source == "item" and not self.model:
            raise ValueError("a feature of items is for the model alone; set model: true, or remove it")
        self._check_vector(set_here)
        return self

    def _check_vector(self, set_here: set[str]) -> None:
        if self.kind != "vector":
            if set_here & {"dimensions", "parts"}:
                raise ValueError("dimensions and parts are for vectors")
            return
        if self.source != "item":
            raise ValueError("a vector is of an item; set source: item")
        if self.dimensions is None or self.dimensions % self.parts:
            raise ValueError("a vector needs dimensions that its parts divide evenly")


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
        "`context`, what is known of users, and what rules of ads may ask for (docs/targeting.md); with model: true "
        "also what the model is told (docs/declared-features.md), there of source: item too; with partition: true what "
        "every ad must ask for.",
    ),
]


def told_by_requests(features: Features) -> dict[str, FeatureConfig]:
    """Those that requests and profiles of users tell, and rules ask for: all but the features of items."""
    return {name: feature for name, feature in features.items() if feature.source != "item"}


def partitions(features: Features) -> tuple[str, ...]:
    """The features that every ad must ask for."""
    return tuple(name for name, feature in features.items() if feature.partition)


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
