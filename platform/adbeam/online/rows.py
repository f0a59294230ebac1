"""Training rows of a round: its new samples, each once, and rows of the first training beside them.

A correction counts the difference of the weights of its action and the one before, so that a click learnt last week
and its conversion learnt now weigh together what a conversion weighs.

Shapes: N rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.features.trends import EncodedTrends
from adbeam.logs.requests import Request, UserSequence, requests_in
from adbeam.online.histories import HELD_OUT, NEW, Fresh
from adbeam.online.join import samples_of, told_of
from adbeam.records import ACTIONS
from adbeam.training.config import BehaviorWeights
from adbeam.training.data.order import RowFiles
from adbeam.training.data.row_builder import RowBuilder, ad_value
from adbeam.training.data.rows import RowFormat

CLICK, CONVERSION = ACTIONS.index("click"), ACTIONS.index("conversion")
SEED = 0
"""The base rows' own (build_rows.SEED): a round must not depend on the seed of a training either."""


def is_held_out(request_id: str, percent: int) -> bool:
    """Whether a request is judged on and never trained on: a fixed function of its id."""
    return zlib.crc32(request_id.encode()) % 100 < percent


def fresh_samples(
    states: Sequence[Path], number: int, percent: int, is_told: bool = False
) -> list[dict[str, list[Fresh]]]:
    """The round's clicks and conversions of every shard, by user; impressions teach the reward model only. What lies
    between a click and a conversion is learnt as a click, unless its click has been. Where a model `is_told` declared
    features, requests of which it is not known what they told teach nothing: it would be that nothing is ever told."""
    found = []
    for state in states:
        by_user: dict[str, list[Fresh]] = {}
        rows = samples_of(state, number).to_pylist()
        told = told_of(state, {row["request_id"] for row in rows}) if is_told else {}
        for row in rows:
            if is_told and row["request_id"] not in told:
                continue
            action = CLICK if CLICK < row["action"] < CONVERSION else row["action"]
            if action >= CLICK and action > row["before"]:
                mark = HELD_OUT if is_held_out(row["request_id"], percent) else NEW
                sample = Fresh(row["request_id"], row["item_id"], action, row["timestamp"], row["scene"],
                               row["value"], mark, told.get(row["request_id"], ()))  # fmt: skip
                by_user.setdefault(row["user_id"], []).append(sample)
        found.append(by_user)
    return found


def untold(states: Sequence[Path], numbers: Sequence[int]) -> int:
    """How many requests with samples in these rounds lack the codes of what they told."""
    count = 0
    for state in states:
        asked = {row for number in numbers for row in samples_of(state, number)["request_id"].to_pylist()}
        count += len(asked) - len(told_of(state, asked))
    return count


def corrections_of(states: Sequence[Path], number: int) -> set[tuple[str, str]]:
    """(request, item) of the round's conversions whose click an earlier round has learnt."""
    return {
        (row["request_id"], row["item_id"])
        for state in states
        for row in samples_of(state, number).to_pylist()
        if row["action"] == CONVERSION and row["before"] >= CLICK
    }


@dataclass(frozen=True)
class RowMaker:
    """Turns sequences with marked events into rows."""

    sids: SidTable
    spec: FeatureSpec
    format: RowFormat
    target_action: str
    weights: BehaviorWeights
    trends: EncodedTrends | None
    corrections: set[tuple[str, str]]

    def rows(self, sequences: Sequence[UserSequence], mark: int) -> Iterator[np.ndarray]:
        """Rows whose targets are the events with this mark: conversions, and clicks where they are targets."""
        for sequence in sequences:
            worth = ad_value(sequence, sequence.split_H != HELD_OUT)
            if self.target_action == "click":
                yield self._builder("click", self.weights).rows(marked(sequence, mark, "click", None, False), worth)
            full, part = (
                marked(sequence, mark, "conversion", self.corrections, corrected) for corrected in (False, True)
            )
            yield self._builder("conversion", self.weights).rows(full, worth)
            if (part.split_H == NEW).any():
                weights = self._difference() if self.target_action == "click" else self.weights
                yield self._builder("conversion", weights).rows(part, worth)

    def _difference(self) -> BehaviorWeights:
        weights = self.weights
        return weights.model_copy(
            update={
                "ad_conversion": max(weights.ad_conversion - weights.ad_click, 0.0),
                "organic_conversion": max(weights.organic_conversion - weights.organic_click, 0.0),
            }
        )

    def _builder(self, action: str, weights: BehaviorWeights) -> RowBuilder:
        return RowBuilder(self.sids, self.spec, self.format, action, weights, SEED, self.trends)


def requests_of(sequence: UserSequence, mark: int, target_action: str) -> list[Request]:
    """The sequence's requests with events of this mark: with clicks where those are targets, and with conversions,
    which is all that is known of an ad whose click and conversion came in one round. Each request once."""
    found: dict[str, Request] = {}
    for action in dict.fromkeys((target_action, "conversion")):
        for request in requests_in(marked(sequence, mark, action, None, False), "train", action):
            known = found.setdefault(request.request_id, request)
            places = np.union1d(known.target_positions, request.target_positions)
            found[request.request_id] = replace(known, target_positions=places)
    return list(found.values())


def marked(
    sequence: UserSequence, mark: int, action: str, corrections: set[tuple[str, str]] | None, corrected: bool
) -> UserSequence:
    """The sequence with NEW for the events that carry `mark` and `action` (and are corrections or not), else none."""
    chosen = (sequence.split_H == mark) & (sequence.action_H == ACTIONS.index(action))
    if corrections is not None and chosen.any():
        pairs = zip(sequence.request_H, sequence.item_H, strict=True)
        chosen &= np.array([((request, item) in corrections) == corrected for request, item in pairs])
    elif corrections is not None and corrected:
        chosen[:] = False
    columns: dict[str, Any] = dict(sequence.__dict__)
    columns["split_H"] = np.where(chosen, NEW, HELD_OUT)
    return UserSequence(**columns)


def replay(files: RowFiles, count: int, seed: int, format: RowFormat) -> np.ndarray:
    """`count` rows of the first training, drawn evenly."""
    count = min(count, files.rows)
    if not count:
        return np.zeros(0, dtype=format.dtype)
    row_N = np.sort(np.random.default_rng(seed).choice(files.rows, size=count, replace=False))
    return to_rows(files.take(row_N), format)


def to_rows(table: pa.Table, format: RowFormat) -> np.ndarray:
    """The rows of a stored table, as `write_rows` takes them."""
    row_N = np.zeros(len(table), dtype=format.dtype)
    for name, values in format.from_table(table).items():
        row_N[name] = values
    return row_N
