"""Which columns of a catalogue tell what exchanges ask of an ad, and what their cells mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from pydantic import Field

from adbeam.catalogue.creatives.creative import UNKNOWN_SECONDS, Creative, Format, Shape
from adbeam.errors import UserError, nearest_name
from adbeam.identity.names import advertiser, folded
from adbeam.identity.numbers import id_of_number
from adbeam.settings import Section

MOST = 1 << 31
"""Above every width, duration and code."""
LISTED = 64
"""Values of one cell that are read."""
_BETWEEN = re.compile(r"[\s,;|]+")


class CreativeColumns(Section):
    """Columns of the catalogue (`logs.files.catalogue.features`, or its own) that tell what an exchange must know of an
    ad. Cells of several values have blanks or commas between them. What no column tells is neither asked for nor
    answered."""

    domains: str | None = Field(None, description="Domains of the advertiser: adomain, badv, wadomain.")
    categories: str | None = Field(None, description="Categories of the taxonomy openrtb.cattax: cat, bcat.")
    app: str | None = Field(None, description="The advertised application: bundle, bapp.")
    format: str | None = Field(None, description="banner, video, audio or native.")
    width_pixels: str | None = Field(None, description="An empty cell fits any size.")
    height_pixels: str | None = None
    mimes: str | None = Field(None, description="Media types, as of video.mimes.")
    attributes: str | None = Field(None, description="Creative attributes, by their numbers in AdCOM: attr, battr.")
    banner_type: str | None = Field(None, description="Banner ad type, by its number in AdCOM: btype.")
    duration_seconds: str | None = Field(None, description="How long a video or audio ad is: dur.")
    expires_seconds: str | None = Field(None, description="How long a bid on it stands: exp.")
    creative_id: str | None = Field(None, description="The creative's id at the exchange: crid; else the item id.")

    @cached_property
    def named(self) -> dict[str, str]:
        """The columns that are named, by their keys here."""
        return {key: column for key, column in self.model_dump().items() if column is not None}

    def check(self, columns: list[str], version: str) -> None:
        """Raise UserError for a column that the catalogue of bundle `version` has not."""
        for key, column in self.named.items():
            if column not in columns:
                near = nearest_name(column, columns)
                raise UserError(
                    f"the catalogue of bundle {version} has no such column",
                    field=f"openrtb.creatives.{key}",
                    value=column,
                    remedy=(f"did you mean {near!r}? else " if near else "") + "name a column of the catalogue, or "
                    "declare it under logs.files.catalogue.features and export again",
                )

    def creative(self, cells: Mapping[str, Any], default: Format | None) -> Creative:
        """The creative of an ad with these cells, by names of columns; `default` is the format where none is told."""
        told = {key: cells.get(column) for key, column in self.named.items()}
        domains = tuple(name for name in map(advertiser, _texts(told.get("domains"))) if "." in name)
        categories = tuple(_texts(told.get("categories")))
        shape = Shape(
            _format(told.get("format"), default),
            _whole(told.get("width_pixels")),
            _whole(told.get("height_pixels")),
            self._set(told, "mimes", folded),
            self._set(told, "attributes", _whole),
            _whole(told.get("banner_type")),
            None if self.duration_seconds is None else _seconds(told.get("duration_seconds")),
            self.domains is None or bool(domains),
            self.categories is None or bool(categories),
        )
        app, creative_id = _text(told.get("app")), _text(told.get("creative_id"))
        return Creative(shape, domains, categories, app, _whole(told.get("expires_seconds")), creative_id)

    def _set(self, told: Mapping[str, Any], key: str, read: Callable[[Any], Any]) -> frozenset[Any] | None:
        if getattr(self, key) is None:
            return None
        return frozenset(value for text in _texts(told.get(key)) if (value := read(text)) is not None)


def _text(cell: Any) -> str | None:
    return cell.strip() or None if isinstance(cell, str) else id_of_number(cell)


def _texts(cell: Any) -> list[str]:
    if isinstance(cell, list | tuple):
        found = [text for entry in cell if (text := _text(entry)) is not None]
    else:
        found = [part for part in _BETWEEN.split(_text(cell) or "") if part]
    return found[:LISTED]


def _number(cell: Any) -> float | None:
    if cell is None or isinstance(cell, bool | list | tuple | dict):
        return None
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < MOST else None


def _whole(cell: Any) -> int | None:
    number = _number(cell)
    return int(number) if number is not None and number == int(number) else None


def _seconds(cell: Any) -> float:
    number = _number(cell)
    return UNKNOWN_SECONDS if number is None else number


def _format(cell: Any, default: Format | None) -> str | None:
    """A word that is no format fits no place."""
    word = _text(cell)
    return default if word is None else folded(word)
