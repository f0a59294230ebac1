"""Sequences of the users of a round: the prepared log's events and those attributed since, with what is new marked.

Logs name users by a keyed hash, the prepared log by their ids: hashing the latter joins both. A user that the prepared
log does not know is known by the hash alone.

Shapes: H events of a user.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from adbeam.declared.encoder import Codes
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import AD, UserSequence, read_sequences
from adbeam.online.ledger import BUSY_SECONDS
from adbeam.pseudonyms import pseudonym
from adbeam.records import SPLITS

NEW, HELD_OUT, PAST = SPLITS.index("train"), SPLITS.index("test"), SPLITS.index("validation")
"""How a sequence marks its events: to be trained on, to be judged on, or context only."""


@dataclass(frozen=True)
class Fresh:
    """A sample of this round: the event at (request, item) with this action is new, for training or for judging."""

    request_id: str
    item_id: str
    action: int
    timestamp: int
    """Of the request: the moment its context ends."""
    scene: str
    value: float
    mark: int
    told: Codes = ()
    """What the model was told by the request."""


class Histories:
    """Looks up some users by hash: the log is read once, and what it says of others is not kept."""

    def __init__(self, prepared: PreparedLog, key: bytes, users: Set[str]) -> None:
        everybody = (sequence for shard in prepared.sequences() for sequence in read_sequences(shard))
        named = ((pseudonym(key, sequence.user_id), sequence) for sequence in everybody)
        self._known = {user: sequence for user, sequence in named if user in users}
        self._rates = prepared.ecpm_rates()
        told = prepared.told()
        self._told_columns = None if told is None else told.columns

    def user_id(self, user: str) -> str:
        """The prepared log's id of a hashed user, or the hash itself."""
        known = self._known.get(user)
        return user if known is None else known.user_id

    def sequences(self, state: Path, fresh: dict[str, list[Fresh]]) -> Iterator[UserSequence]:
        """For every user of `fresh`, all that is known, oldest first; fresh events carry their mark.

        A fresh event stands at its request's moment, under its request's id, so that the context of its request ends
        before it, as in the prepared log.
        """
        with closing(sqlite3.connect(state, timeout=BUSY_SECONDS)) as db:
            for user, samples in fresh.items():
                past = db.execute(
                    "SELECT request_id, item_id, timestamp, action, value FROM events "
                    "WHERE user_id = ? AND state = 'used' ORDER BY timestamp, event_id",
                    (user,),
                ).fetchall()
                yield self._sequence(user, past, samples)

    def _sequence(
        self, user: str, past: Sequence[tuple[str, str, int, int, float]], fresh: Sequence[Fresh]
    ) -> UserSequence:
        new = {(sample.request_id, sample.item_id, sample.action) for sample in fresh}
        rows = [(r, i, t, a, v, PAST, "") for r, i, t, a, v in past if (r, i, a) not in new]
        rows += [(s.request_id, s.item_id, s.timestamp, s.action, s.value, s.mark, s.scene) for s in fresh]
        columns = list(zip(*rows, strict=True)) or [()] * 7
        request, item, moment, action, value, mark, scene = columns
        n = len(rows)
        added = {
            "split_H": np.array(mark, np.int8),
            "request_H": np.array(request, object),
            "timestamp_H": np.array(moment, np.int64),
            "item_H": np.array(item, object),
            "kind_H": np.full(n, AD, np.int8),
            "scene_H": np.array(scene, object),
            "action_H": np.array(action, np.int8),
            "value_H": np.array(value, np.float32),
        }
        if self._rates is not None:  # a target is worth what it would be in the prepared log
            items, scenes = (pa.array(column, pa.string()) for column in (item, scene))
            added["target_value_H"] = self._rates.values(items, scenes)
        if self._told_columns is not None:  # only what begins a request is asked for its codes
            nothing = [(0,) * self._told_columns] * (n - len(fresh))
            codes = nothing + [sample.told for sample in fresh]
            added["told_HF"] = np.array(codes, np.int32).reshape(n, self._told_columns)
        known = self._known.get(user)
        if known is not None:
            before = {name: getattr(known, name) for name in added} | {"split_H": np.full_like(known.split_H, PAST)}
            added = {name: np.concatenate([before[name], added[name]]) for name in added}
        order = np.argsort(added["timestamp_H"], kind="stable")
        return UserSequence(self.user_id(user), **{name: values[order] for name, values in added.items()})
