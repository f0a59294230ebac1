"""The records that flow through adbeam, each written down once: as an Arrow schema, and as pydantic at the border.

`Event` is one row of an ad log, `CatalogueItem` one ad or organic item, `Sequence` one user's events in time order,
`ListSample` what learning from rewards reads: one request with generated candidates, what each is worth and how likely
it was when it was generated.
Times are milliseconds since 1970, UTC. Money is in the log's own currency.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from adbeam.targeting.rules import read_rules


class ItemKind(StrEnum):
    """Whether an item was shown as a paid placement or found by the user on their own."""

    AD = "ad"
    ORGANIC = "organic"


class Action(StrEnum):
    """How far the user went, in rising order of value."""

    IMPRESSION = "impression"
    CLICK = "click"
    DEEP = "deep"
    CONVERSION = "conversion"


class Status(StrEnum):
    """Whether a catalogue item may be served."""

    ACTIVE = "active"
    PAUSED = "paused"


MOST_MONEY = 1e12
"""No price, bid, eCPM or worth is above it. Sequences, stores and models keep money as float32, which holds it to seven
digits and 3e38 at most: sums of squares of amounts up to here stay finite there, and 1e300 would be inf. No currency
has a single order of it, so what lies above is a fault upstream."""

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ACTIONS: tuple[str, ...] = tuple(action.value for action in Action)
ITEM_KINDS: tuple[str, ...] = tuple(kind.value for kind in ItemKind)

EVENT_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("item_kind", pa.string(), nullable=False),
        pa.field("scene", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("bid", pa.float64()),
        pa.field("ecpm", pa.float64()),
        pa.field("price", pa.float64()),
        pa.field("position", pa.int32()),
    ]
)
"""One row of an ad log. Dataset-specific feature columns ride along behind these."""

CATALOGUE_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("category", pa.string()),
        pa.field("brand", pa.string()),
        pa.field("advertiser", pa.string()),
        pa.field("price", pa.float64()),
        pa.field("ecpm", pa.float64()),
        pa.field("status", pa.string(), nullable=False),
    ]
)
"""One ad or organic item. `price` is the typical value of a conversion, `ecpm` that of 1000 impressions."""

CAMPAIGN = "campaign"
"""Column of catalogues behind CATALOGUE_SCHEMA where any ad is of a campaign: text."""

SEQUENCE_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("split", pa.list_(pa.int8()), nullable=False),
        pa.field("request_id", pa.list_(pa.string()), nullable=False),
        pa.field("timestamp", pa.list_(pa.int64()), nullable=False),
        pa.field("item_id", pa.list_(pa.string()), nullable=False),
        pa.field("item_kind", pa.list_(pa.int8()), nullable=False),
        pa.field("scene", pa.list_(pa.string()), nullable=False),
        pa.field("action", pa.list_(pa.int8()), nullable=False),
        pa.field("value", pa.list_(pa.float32()), nullable=False),
    ]
)
"""One user's events, oldest first. `action` and `item_kind` index ACTIONS and ITEM_KINDS, `split` indexes SPLITS, and
`value` is what the event was worth: the conversion's price, or the bid or eCPM of a lesser action."""

TARGET_VALUE = "target_value"
"""Column of sequences behind SEQUENCE_SCHEMA where a target is not worth its `value` (`logs.value`): lists of
float32."""

TOLD = "told"
"""Column of sequences behind SEQUENCE_SCHEMA where features are declared for the model: the codes of what each event's
request told, event by event, as lists of int32."""

SPLITS: tuple[str, ...] = ("train", "validation", "test")

REQUEST_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("scene", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("item_ids", pa.list_(pa.string()), nullable=False),
        pa.field("sids", pa.list_(pa.list_(pa.int32())), nullable=False),
        pa.field("log_probabilities", pa.list_(pa.float64()), nullable=False),
        pa.field("expected_ecpm", pa.list_(pa.float64()), nullable=False),
    ]
)
"""One answered request as serving logs it: the ads in their order, with null log-probabilities where no model made
them; `user_id` is a keyed hash, null for an unknown user; `source` is model, cache or fallback."""

TOLD_BY = "told_by"
TOLD_SCHEMA = pa.schema([pa.field(TOLD, pa.list_(pa.int32())), pa.field(TOLD_BY, pa.string())])
"""Behind REQUEST_SCHEMA where features are declared for the model: the codes that the model was told by the request, or
would have been, and the fingerprint of the encoder whose codes they are (`declared.encoder.FeatureEncoder`)."""

LIST_SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("scene", pa.string(), nullable=False),
        pa.field("static", pa.list_(pa.int32()), nullable=False),
        pa.field("codes", pa.list_(pa.int32()), nullable=False),
        pa.field("features", pa.list_(pa.uint8()), nullable=False),
        pa.field("trend_codes", pa.list_(pa.int32())),
        pa.field("trend_features", pa.list_(pa.uint8())),
        pa.field("item_ids", pa.list_(pa.string()), nullable=False),
        pa.field("sids", pa.list_(pa.list_(pa.int32())), nullable=False),
        pa.field("rewards", pa.list_(pa.float64()), nullable=False),
        pa.field("log_probabilities", pa.list_(pa.float64())),
        pa.field("source", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("tokens_version", pa.string(), nullable=False),
    ]
)
"""One request with n candidates. The context lies flat, row by row: `static` [F], `codes` [S, T] (-1 where there is no
token), `features` [S, C]; the trend columns [N, T] and [N, C] are null where the model knows no trends. `rewards` are
eCPM in money, null where unknown; `log_probabilities` are those of the model that generated the list, in nats: null as
a whole, or for a candidate that it did not generate."""


class Event(BaseModel):
    """One row of an ad log, as an HTTP client posts it and as the Parquet log stores it."""

    model_config = ConfigDict(extra="forbid")

    event_id: str = Field(min_length=1, max_length=128, description="Unique; the same id is counted once.")
    request_id: str = Field(min_length=1, max_length=128, description="The ad request this event answers to.")
    user_id: str = Field(min_length=1, max_length=128)
    timestamp: int = Field(ge=0, description="Milliseconds since 1970, UTC.")
    item_id: str = Field(min_length=1, max_length=128)
    item_kind: ItemKind = ItemKind.AD
    scene: str = Field(default="default", min_length=1, max_length=64)
    action: Action
    bid: float | None = Field(default=None, ge=0, le=MOST_MONEY, allow_inf_nan=False)
    ecpm: float | None = Field(default=None, ge=0, le=MOST_MONEY, allow_inf_nan=False)
    price: float | None = Field(default=None, ge=0, le=MOST_MONEY, allow_inf_nan=False)
    position: int | None = Field(default=None, ge=0, le=10_000)


class ListSample(BaseModel):
    """One request with candidates to learn an order of (LIST_SAMPLE_SCHEMA has shapes and meanings)."""

    model_config = ConfigDict(extra="forbid")

    sample_id: str = Field(min_length=1, max_length=256, description="Unique; the same id is learnt from once.")
    request_id: str = Field(min_length=1, max_length=128)
    user_id: str = Field(min_length=1, max_length=128)
    timestamp: int = Field(ge=0, description="Milliseconds since 1970, UTC.")
    scene: str = Field(default="default", min_length=1, max_length=64)
    static: list[int]
    codes: list[int]
    features: list[int]
    trend_codes: list[int] | None = None
    trend_features: list[int] | None = None
    item_ids: list[str] = Field(min_length=1)
    sids: list[list[int]] = Field(min_length=1)
    rewards: list[float | None]
    log_probabilities: list[float | None] | None = None
    source: str = Field(min_length=1, max_length=64, description="Pipeline that made the list.")
    model_version: str = Field(max_length=128, description="Bundle that made it; empty where no model did.")
    tokens_version: str = Field(max_length=128, description="Fingerprint of the tokenizer whose SIDs these are.")

    @model_validator(mode="after")
    def _lists_agree(self) -> Self:
        n, levels = len(self.sids), len(self.sids[0])
        if any(len(sid) != levels or min(sid, default=-1) < 0 for sid in self.sids):
            raise ValueError("every SID of a list has the same number of codes, none below 0")
        for name in ("item_ids", "rewards", "log_probabilities"):
            values = getattr(self, name)
            if values is not None and len(values) != n:
                raise ValueError(f"{name} holds {len(values)} values for {n} candidates")
        if any(value is not None and not value <= 1e-6 for value in self.log_probabilities or ()):
            raise ValueError("log_probabilities must be logarithms of probabilities: 0 or less")
        if any(value is not None and math.isinf(value) for value in self.rewards):
            raise ValueError("rewards must be finite; null where unknown")
        return self


def plain_rules(rules: str | Mapping[str, Any]) -> dict[str, Any]:
    """Targeting rules in their one form; raises UserError, a ValueError, naming what is wrong with them."""
    text = read_rules(rules, None).text
    plain: dict[str, Any] = {} if text is None else json.loads(text)
    return plain


TargetingRules = Annotated[dict[str, Any], AfterValidator(plain_rules)]
"""Whom an ad is for, by whatever features: who serves the ad holds them against the declared ones."""


class CatalogueItem(BaseModel):
    """One ad or organic item."""

    model_config = ConfigDict(extra="forbid")

    item_id: str = Field(min_length=1, max_length=128)
    kind: ItemKind = ItemKind.AD
    title: str = Field(max_length=2048)
    category: str | None = Field(default=None, max_length=256)
    brand: str | None = Field(default=None, max_length=256)
    advertiser: str | None = Field(default=None, max_length=256)
    campaign: str | None = Field(default=None, max_length=256)
    price: float | None = Field(default=None, ge=0, le=MOST_MONEY, allow_inf_nan=False)
    ecpm: float | None = Field(default=None, ge=0, le=MOST_MONEY, allow_inf_nan=False)
    status: Status = Status.ACTIVE
    features: dict[str, str | float | None] = Field(
        default_factory=dict, description="Declared feature columns of the catalogue: image, ad form, account, ..."
    )
    targeting: TargetingRules | None = Field(
        default=None, description="Whom the ad is for (docs/targeting.md); null: everybody."
    )
