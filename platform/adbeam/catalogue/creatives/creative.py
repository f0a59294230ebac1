"""Creatives as exchanges see them, and what a place demands of one.

Numbers are those of AdCOM 1.0: creative attributes, banner ad types, media types of bids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from adbeam.identity.names import folded

Format = Literal["banner", "video", "audio", "native"]
FORMATS: tuple[Format, ...] = get_args(Format)
UNKNOWN_SECONDS = -1.0
"""Duration of an ad whose column says nothing: it fits where no duration is asked for."""


class Shape(NamedTuple):
    """What decides whether an ad fits a place; None where the catalogue has no column for it, which fits anywhere."""

    format: str | None = None
    width: int | None = None
    height: int | None = None
    """Pixels; None also where an ad fits any size."""
    mimes: frozenset[str] | None = None
    attributes: frozenset[int] | None = None
    banner_type: int | None = None
    duration_seconds: float | None = None
    is_named: bool = True
    is_listed: bool = True
    """Whether a domain, and a category, of the ad is known where there are columns of them."""


class Creative(NamedTuple):
    """What an exchange must know of an ad."""

    shape: Shape = Shape()
    domains: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    app: str | None = None
    expires_seconds: int | None = None
    creative_id: str | None = None

    @classmethod
    def of(cls, ad: Mapping[str, Any]) -> Creative:
        """Of an ad as the answer to a bid request carries it."""
        found: Creative = ad.get("creative", UNDECLARED)
        return found


UNDECLARED = Creative()
"""Of an ad of which no column tells anything."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One format that a place takes; what is empty or None is not asked for."""

    format: Format
    sizes: frozenset[tuple[int, int]] = frozenset()
    mimes: frozenset[str] = frozenset()
    blocked_attributes: frozenset[int] = frozenset()
    blocked_types: frozenset[int] = frozenset()
    least_seconds: float | None = None
    most_seconds: float | None = None

    def fits(self, shape: Shape) -> bool:
        """Whether an ad of this shape may be shown there."""
        return (
            (shape.format is None or shape.format == self.format)
            and self._fits_size(shape)
            and (shape.mimes is None or not self.mimes or not self.mimes.isdisjoint(shape.mimes))
            and (shape.attributes is None or self.blocked_attributes.isdisjoint(shape.attributes))
            and shape.banner_type not in self.blocked_types
            and self._lasts(shape.duration_seconds)
        )

    def _fits_size(self, shape: Shape) -> bool:
        if not self.sizes or shape.width is None or shape.height is None:
            return True
        return (shape.width, shape.height) in self.sizes

    def _lasts(self, seconds: float | None) -> bool:
        if seconds is None or (self.least_seconds is None and self.most_seconds is None):
            return True
        most = self.most_seconds
        return max(self.least_seconds or 0.0, 0.0) <= seconds and (most is None or seconds <= most)


@dataclass(frozen=True, slots=True)
class Demands:
    """What a bid request demands of an ad."""

    wanted: tuple[Wanted, ...] = ()
    """The ad must fit one of these; none: any format."""
    apps: frozenset[str] = frozenset()
    """Blocked applications, folded."""
    must_be_named: bool = False
    must_be_listed: bool = False
    """Whether domains, and categories, are blocked: an ad of which none is known may be one of those."""

    def fits(self, creative: Creative) -> bool:
        """Whether an ad may be shown."""
        return self.fits_shape(creative.shape) and (creative.app is None or folded(creative.app) not in self.apps)

    def fits_shape(self, shape: Shape) -> bool:
        """Whether an ad of this shape may be shown, its application aside."""
        if (self.must_be_named and not shape.is_named) or (self.must_be_listed and not shape.is_listed):
            return False
        return not self.wanted or any(wanted.fits(shape) for wanted in self.wanted)
