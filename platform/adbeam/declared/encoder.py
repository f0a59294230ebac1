"""Declared features as codes: the one function of training, evaluation, rewards, online learning and serving.

Of every feature code 0 means that its value is missing, code 1 that it is not known. Numpy only.

Shapes: B requests, n values, F columns of codes of requests and K of items (a list has several), E edges, P parts of a
vector, C centres of a part, D dimensions.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from adbeam.declared.vectors import nearest
from adbeam.errors import UserError
from adbeam.targeting.told import Value, words

FILE = "features.json"
"""Of a prepared log and of a bundle: the features as they were fitted."""
FORMAT = 1
MISSING, UNKNOWN, FIRST = 0, 1, 2
"""Codes of no value and of a value that nobody knows; the first code of a value."""

Kind = Literal["category", "number", "list", "vector"]
Vector = tuple[float, ...]
Codes = tuple[int, ...]
"""The codes of one request, all features' columns behind each other."""


class ToldCodes(NamedTuple):
    """What a model was told by one request, and whose codes these are."""

    codes: Codes
    by: str
    """Fingerprint of the encoder."""


@dataclass(frozen=True)
class FittedFeature:
    """One feature as the training split made it. One of `words`, `buckets`, `edges` and `centres` is given."""

    name: str
    kind: Kind
    source: str
    words: tuple[str, ...] | None = None
    """The vocabulary, the most frequent word first."""
    buckets: int | None = None
    """Into how many codes words are hashed, where there is no vocabulary."""
    edges: tuple[float, ...] | None = None
    """Where the quantiles of a number begin, rising; the first and the last are open."""
    columns: int = 1
    """Codes of one value: 1, or of a list as many words as the model hears, or of a vector its parts."""
    centres: tuple[tuple[Vector, ...], ...] | None = None
    """[P][C][D / P], what the parts of a vector are near to."""
    column: str | None = None
    """Of a feature of items: its column of the catalogue."""
    separator: str | None = None
    """Of a list of items: what stands between its words in the catalogue's text."""
    missing_share: float | None = None
    unknown_share: float | None = None
    """Shares of the training requests that lacked a value, or told an unknown word; None where nobody counted."""

    @property
    def size(self) -> int:
        """How many codes there are."""
        if self.edges is not None:
            return FIRST + len(self.edges) + 1
        if self.centres is not None:
            return FIRST + len(self.centres) * len(self.centres[0])
        return FIRST + (self.buckets if self.words is None else len(self.words))  # type: ignore[operator]

    def encode(self, values: Sequence[Value | None]) -> np.ndarray:
        """int32 [n, columns]; None is missing. Where a list has fewer words than columns the rest is 0."""
        code_nF = np.zeros((len(values), self.columns), dtype=np.int32)
        if self.edges is not None:
            number_n = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            code_nF[:, 0] = np.searchsorted(self._edge_E, number_n, side="right") + FIRST
            code_nF[np.isnan(number_n), 0] = MISSING
            return code_nF
        for place, value in enumerate(values):
            codes = sorted({self._code(word) for word in words(value)}, key=_unknown_last)[: self.columns]
            code_nF[place, : len(codes)] = codes
        return code_nF

    def encode_vectors(self, x_nD: np.ndarray) -> np.ndarray:
        """int32 [n, columns] of vectors, those of another part under other codes; a vector of NaN is missing."""
        code_nP = nearest(np.nan_to_num(x_nD), self._centre_PCE)
        code_nP += FIRST + len(self._centre_PCE[0]) * np.arange(self.columns, dtype=np.int32)
        code_nP[np.isnan(x_nD).any(1)] = MISSING
        return code_nP

    @cached_property
    def dimensions(self) -> int:
        """D of a vector."""
        parts, _, size = self._centre_PCE.shape
        return int(parts * size)

    @cached_property
    def _centre_PCE(self) -> np.ndarray:
        return np.array(self.centres, dtype=np.float64)

    def _code(self, word: str) -> int:
        if self.words is None:
            return FIRST + zlib.crc32(word.encode()) % (self.buckets or 1)
        return self._code_of.get(word, UNKNOWN)

    @cached_property
    def _code_of(self) -> dict[str, int]:
        return {word: FIRST + place for place, word in enumerate(self.words or ())}

    @cached_property
    def _edge_E(self) -> np.ndarray:
        return np.array(self.edges, dtype=np.float64)


@dataclass(frozen=True)
class FeatureEncoder:
    """All features that a model is told, in the order of their columns."""

    features: tuple[FittedFeature, ...]
    """Of requests and users, by name."""
    items: tuple[FittedFeature, ...] = ()
    """Of items, by name."""

    @cached_property
    def columns(self) -> int:
        """F."""
        return sum(feature.columns for feature in self.features)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """{name: (codes, columns)}: what a model must know to read the codes."""
        return {feature.name: (feature.size, feature.columns) for feature in self.features}

    @cached_property
    def item_shapes(self) -> dict[str, tuple[int, int]]:
        """The same of the features of items."""
        return {feature.name: (feature.size, feature.columns) for feature in self.items}

    def encode(self, told: Sequence[Mapping[str, Value]]) -> np.ndarray:
        """int32 [B, F] of what B requests told."""
        parts = [feature.encode([values.get(feature.name) for values in told]) for feature in self.features]
        code_BF: np.ndarray = np.concatenate(parts, axis=1) if parts else np.zeros((len(told), 0), np.int32)
        return code_BF

    def codes(self, told: Sequence[Mapping[str, Value]]) -> list[Codes]:
        """The same, one tuple a request."""
        return [tuple(row) for row in self.encode(told).tolist()]

    def unknown(self, codes: Sequence[Codes]) -> dict[str, int]:
        """{feature: how many of these requests tell a word of it that is not known}."""
        found, first = {}, 0
        for feature in self.features:
            last = first + feature.columns
            found[feature.name] = sum(UNKNOWN in row[first:last] for row in codes)
            first = last
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Tells these codes from those of every other fit: 16 hexadecimal digits."""
        plain = [replace(feature, missing_share=None, unknown_share=None) for feature in self.features]
        text = json.dumps([_stored(feature) for feature in plain], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def write(self, folder: Path) -> None:
        """Write `features.json` into a folder."""
        stored: dict[str, Any] = {"format": FORMAT, "features": [_stored(feature) for feature in self.features]}
        if self.items:
            stored["items"] = [_stored(feature) for feature in self.items]
        text = json.dumps(stored, ensure_ascii=False, indent=1)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> Self | None:
        """What `write` wrote; None where a model is told nothing. Raises UserError for another format."""
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["format"] != FORMAT:
                raise UserError(
                    f"{path} has format {stored['format']!r}, this version reads {FORMAT}",
                    remedy="prepare, train and export with this version",
                )
            return cls(*(tuple(map(_feature, part)) for part in (stored["features"], stored.get("items", []))))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path} cannot be read: {error}", remedy="prepare or export again") from None


def _stored(feature: FittedFeature) -> dict[str, Any]:
    given: dict[str, Any] = {field.name: getattr(feature, field.name) for field in fields(feature)}
    return {key: value for key, value in given.items() if value is not None}


def _feature(stored: dict[str, Any]) -> FittedFeature:
    values: dict[str, Any] = dict(stored)
    values |= {key: tuple(stored[key]) for key in ("words", "edges") if key in stored}
    if "centres" in stored:
        values["centres"] = tuple(tuple(map(tuple, part)) for part in stored["centres"])
    feature = FittedFeature(**values)
    if sum(given is not None for given in (feature.words, feature.buckets, feature.edges, feature.centres)) != 1:
        raise ValueError(f"{feature.name} needs one of words, buckets, edges and centres")
    return feature


def _unknown_last(code: int) -> tuple[bool, int]:
    return code == UNKNOWN, code
