"""The records that flow through adbeam, each written down once: as an Arrow schema, and as pydantic at the border.

`Event` is one row of an ad log, `CatalogueItem` one ad or organic item, `Sequence` one user's events in time order,
`Sample` what a trainer reads: one request (a user at a moment) with the items that followed it.
Times are milliseconds since 1970, UTC. Money is in the log's own currency.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field


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

SPLITS: tuple[str, ...] = ("train", "validation", "test")


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
    bid: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    ecpm: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    position: int | None = Field(default=None, ge=0, le=10_000)


class CatalogueItem(BaseModel):
    """One ad or organic item."""

    model_config = ConfigDict(extra="forbid")

    item_id: str = Field(min_length=1, max_length=128)
    kind: ItemKind = ItemKind.AD
    title: str = Field(max_length=2048)
    category: str | None = Field(default=None, max_length=256)
    brand: str | None = Field(default=None, max_length=256)
    advertiser: str | None = Field(default=None, max_length=256)
    price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    ecpm: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    status: Status = Status.ACTIVE
    features: dict[str, str | float | None] = Field(
        default_factory=dict, description="Declared feature columns of the catalogue: image, ad form, account, ..."
    )
