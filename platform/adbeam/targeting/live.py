"""The rules of a catalogue whose ads change while they are served: a compiled base, and what was put since on top.

What is put is compiled in segments that grow: as many ads again are put before one is compiled anew, so that a change
costs the same among many as among few. One thread may put; another asks, and sees a change whole or not at all.

Shapes: R rows of the catalogue, of which the first N are the base.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from adbeam.errors import UserError
from adbeam.targeting.compiled.index import CompiledRules
from adbeam.targeting.features import Features, partitions
from adbeam.targeting.rules import names_by_in, read_rules, stored_rules
from adbeam.targeting.told import Told

log = logging.getLogger(__name__)

TAIL = 64
"""Ads put last, whose rules are held against a request one by one."""
NEVER = '{"end":0}'
"""Rules that no request matches: of an ad whose own are not understood here, or do not ask for a partition."""


@dataclass(frozen=True)
class _Segment:
    """Rows that were put, oldest first, with their rules."""

    texts: dict[int, str | None]
    rows: NDArray[np.int64]
    compiled: CompiledRules

    @classmethod
    def of(cls, texts: dict[int, str | None], features: Features) -> _Segment:
        rows = np.fromiter(texts, np.int64, len(texts))
        return cls(texts, rows, CompiledRules(pa.array(texts.values(), pa.string()), features))


@dataclass(frozen=True)
class _Put:
    """What was put since the base was compiled; later ones win."""

    segments: tuple[_Segment, ...] = ()
    tail: tuple[tuple[int, str | None], ...] = ()


class LiveTargeting:
    """Which ads a request may be shown, and the rules of each."""

    def __init__(self, texts: pa.ChunkedArray | None, features: Features, size: int) -> None:
        """`texts` are the rules of the first `size` rows, None where no ad has any.

        Raises UndeclaredFeatures for rules over features that are not declared.
        """
        self._features, self._size, self._texts = features, size, texts
        self._partitions = partitions(features)
        self._base: CompiledRules | None = None
        if texts is not None and texts.null_count < len(texts):
            self._base = CompiledRules(texts, features)
        elif self._partitions:
            self._base = CompiledRules(pa.nulls(size, pa.string()), features)
        if self._base is not None and self._base.for_nobody:
            log.warning(
                "%d of %d items are for nobody: they do not name their %s",
                self._base.for_nobody, size, " and ".join(self._partitions),
            )  # fmt: skip
        self._changed: dict[int, str | None] = {}
        self._put = _Put()

    @property
    def nbytes(self) -> int:
        """Bytes of the compiled base and of what was put, texts aside."""
        compiled = [segment.compiled for segment in self._put.segments]
        return sum(rules.nbytes for rules in compiled + ([self._base] if self._base is not None else []))

    def text(self, row: int) -> str | None:
        """The rules of a row now; None where it is for everybody."""
        if row in self._changed:
            return self._changed[row]
        if self._base is None or row >= self._size:
            return None
        text: str | None = None if self._texts is None else self._texts[row].as_py()
        return self._partitioned(text) if self._partitions else text

    def check(self, rules: Mapping[str, Any]) -> None:
        """Raise UserError for rules that are wrong, or over features that are not declared."""
        read_rules(rules, self._features)

    def put(self, row: int, rules: Mapping[str, Any] | None) -> None:
        """The rules of a row that comes, before it exists, or that has changed."""
        text = self._partitioned(None if rules is None else self._understood(row, rules))
        if text is not None or self.text(row) is not None:
            self._put_text(row, text)

    def _partitioned(self, text: str | None) -> str | None:
        """The rules, or NEVER where they do not ask for every partition."""
        if not self._partitions:
            return text
        asked = stored_rules(text).conditions if text is not None else {}
        return text if all(names_by_in(asked.get(name)) for name in self._partitions) else NEVER

    def _put_text(self, row: int, text: str | None) -> None:
        self._changed[row] = text
        segments, tail = self._put.segments, (*self._put.tail, (row, text))
        if len(tail) >= TAIL:
            segments, tail = self._grown((*segments, _Segment.of(dict(tail), self._features))), ()
        self._put = _Put(segments, tail)

    def copy(self, row: int, to: int) -> None:
        """Give a row that comes, before it exists, the rules of another."""
        text = self.text(row)
        if text is not None:
            self._put_text(to, text)

    def allow(self, told: Told, rows: int) -> NDArray[np.bool_] | None:
        """bool [R] of the first `rows` rows, a new array; None while no ad has rules."""
        put = self._put  # after `rows` was counted: a row is put before it exists
        if self._base is None and not put.segments and not put.tail:
            return None
        allow_R = self._by_base(told, rows)
        for segment in put.segments:
            exists = segment.rows < rows
            allow_R[segment.rows[exists]] = segment.compiled.allow(told)[exists]
        for row, text in put.tail:
            if row < rows:
                allow_R[row] = text is None or stored_rules(text).hold(told)
        return allow_R

    def _by_base(self, told: Told, rows: int) -> NDArray[np.bool_]:
        """bool [R], a new array: by the base alone; rows that came since are for everybody."""
        if self._base is None:
            return np.ones(rows, np.bool_)
        allow_N = self._base.allow(told)
        return allow_N if rows == self._size else np.append(allow_N, np.ones(rows - self._size, np.bool_))

    def _grown(self, segments: tuple[_Segment, ...]) -> tuple[_Segment, ...]:
        """Segments that each hold twice the rows of the next, at least."""
        while len(segments) > 1 and len(segments[-2].rows) < 2 * len(segments[-1].rows):
            *older, one, two = segments
            segments = (*older, _Segment.of({**one.texts, **two.texts}, self._features))
        return segments

    def _understood(self, row: int, rules: Mapping[str, Any]) -> str | None:
        try:
            return read_rules(rules, self._features).text
        except UserError as error:
            log.warning("the ad of row %d is shown to nobody, its rules are not understood here: %s", row, error)
            return NEVER
