"""The creatives of a catalogue's rows, and the masks of what bid requests demand of them.

Few shapes are shared by many ads: a demand is held against each shape once. Rows are those of the catalogue; R rows, S
shapes. One thread at a time may add.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from adbeam.catalogue.blocked import NO_ROWS, KeptMasks
from adbeam.catalogue.creatives.columns import CreativeColumns
from adbeam.catalogue.creatives.creative import Creative, Demands, Format, Shape
from adbeam.identity.names import folded


class Creatives:
    """What each row's ad is to an exchange."""

    def __init__(self, columns: CreativeColumns, default: Format | None, table: pa.Table, version: str) -> None:
        """Of `table`, the catalogue of bundle `version`; `default` is the format of ads that tell none. Raises
        UserError for a column that it has not."""
        columns.check(table.column_names, version)
        self._columns, self._default = columns, default
        self._creatives: list[Creative] = []
        self._shapes: dict[Shape, int] = {}
        self._shape: list[int] = []
        self._rows_of_app: dict[str, list[int]] = {}
        self.rows_by: dict[str, dict[str, NDArray[np.int64]]] = {"domain": {}, "listed_category": {}}
        """Rows of each domain and category, as filters of a request look for them."""
        named = sorted(set(columns.named.values()))
        cells = [table.column(name).to_pylist() for name in named]
        made: dict[tuple[Any, ...], Creative] = {}
        listed: dict[str, dict[str, list[int]]] = {"domain": {}, "listed_category": {}}
        for row in range(len(table)):
            key = tuple(_hashable(column[row]) for column in cells)
            creative = made.get(key)
            if creative is None:
                creative = made[key] = columns.creative(dict(zip(named, key, strict=True)), default)
            self._append(creative)
            for kind, name in _listed(creative):
                listed[kind].setdefault(name, []).append(row)
        for kind, rows in listed.items():
            self.rows_by[kind].update({name: np.array(held, np.int64) for name, held in rows.items()})
        self._bundled_R = np.array(self._shape, np.int32)
        self._kept = KeptMasks()

    def of(self, row: int) -> Creative:
        """The creative of a row."""
        return self._creatives[row]

    def put(self, cells: Mapping[str, Any]) -> None:
        """One more row, of an ad with these cells by the names of columns."""
        self._add(self._columns.creative({name: _hashable(cell) for name, cell in cells.items()}, self._default))

    def copy(self, row: int, advertiser: str | None) -> None:
        """One more row that is in all like `row`, but of another advertiser where that is not None."""
        creative = self._creatives[row]
        if advertiser is not None and self._columns.domains == "advertiser":
            now = self._columns.creative({"advertiser": advertiser}, self._default)
            shape = creative.shape._replace(is_named=now.shape.is_named)
            creative = creative._replace(shape=shape, domains=now.domains)
        self._add(creative)

    def allow(self, demands: Demands, rows: int) -> NDArray[np.bool_]:
        """bool [R] of at least the first `rows`: which of them fit."""
        return self._kept.of(demands, rows, partial(self._made, demands, rows))

    def _made(self, demands: Demands, rows: int) -> NDArray[np.bool_]:
        allow_S = np.fromiter(map(demands.fits_shape, list(self._shapes)), np.bool_)
        bundled = len(self._bundled_R)
        shape_R = np.concatenate([self._bundled_R, np.array(self._shape[bundled:rows], np.int32)])[:rows]
        allow_R: NDArray[np.bool_] = allow_S[shape_R]
        for app in demands.apps:
            row = np.array(self._rows_of_app.get(app, []), np.int64)
            allow_R[row[row < rows]] = False
        return allow_R

    def _add(self, creative: Creative) -> None:
        row = len(self._creatives)
        for kind, name in _listed(creative):
            self.rows_by[kind][name] = np.append(self.rows_by[kind].get(name, NO_ROWS), row)
        self._append(creative)

    def _append(self, creative: Creative) -> None:
        if creative.app is not None:
            self._rows_of_app.setdefault(folded(creative.app), []).append(len(self._creatives))
        self._shape.append(self._shapes.setdefault(creative.shape, len(self._shapes)))
        self._creatives.append(creative)


def _listed(creative: Creative) -> Iterator[tuple[str, str]]:
    """(kind, name) of what lists of a request may name of an ad."""
    yield from (("domain", name) for name in creative.domains)
    yield from (("listed_category", name) for name in creative.categories)


def _hashable(cell: Any) -> Any:
    return tuple(cell) if isinstance(cell, list) else cell
