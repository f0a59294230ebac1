"""Requests inside a user's sequence: the moments to learn from and to be judged on.

A request is one (user, request_id) with at least one target. Its context is every event strictly before its first
one, so nothing that belongs to the request itself can leak into what the model is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.logs.user_events import UserEvents
from adbeam.records import ACTIONS, ITEM_KINDS, SPLITS, TARGET_VALUE, TOLD

AD = ITEM_KINDS.index("ad")


@dataclass(frozen=True)
class UserSequence(UserEvents):
    """One user's events, oldest first; H events."""

    user_id: str
    split_H: np.ndarray
    request_H: np.ndarray
    timestamp_H: np.ndarray
    item_H: np.ndarray
    kind_H: np.ndarray
    scene_H: np.ndarray
    action_H: np.ndarray
    value_H: np.ndarray
    target_value_H: np.ndarray | None = None
    """float, what each event is worth as a target, where that is not its value (`logs.value: ecpm`)."""
    told_HF: np.ndarray | None = None
    """int32, codes of the declared features of each event's request, where the model is told any; F columns."""

    @property
    def worth_H(self) -> np.ndarray:
        """What each event is worth as a target."""
        return self.value_H if self.target_value_H is None else self.target_value_H


@dataclass(frozen=True)
class Request:
    """One moment of one user. Events [0, end) of `sequence` are its context; `target_positions` index its targets."""

    sequence: UserSequence
    request_id: str
    now_ms: int
    end: int
    scene: str
    target_positions: np.ndarray
    codes: tuple[int, ...] | None = None
    """What the request told, where it is none of the log's and the sequence does not say it."""

    @property
    def told(self) -> tuple[int, ...]:
        """Codes of the declared features that the request told; empty where the model is told none."""
        if self.codes is not None:
            return self.codes
        told_HF = self.sequence.told_HF
        return () if told_HF is None else tuple(told_HF[self.target_positions[0]].tolist())

    @property
    def targets(self) -> np.ndarray:
        """Item ids that followed, ads and organic ones alike."""
        items: np.ndarray = self.sequence.item_H[self.target_positions]
        return items

    def ad_targets(self) -> dict[str, float]:
        """Distinct ads that converted in this request, with the money they brought, or with their expected eCPM where
        the log's targets are worth that: two orders do not double it."""
        worth: dict[str, float] = {}
        adds_up = self.sequence.target_value_H is None
        for position in self.target_positions:
            if self.sequence.kind_H[position] == AD:
                item = str(self.sequence.item_H[position])
                before = worth.get(item, 0.0) if adds_up else 0.0
                worth[item] = before + float(self.sequence.worth_H[position])
        return worth

    def history_items(self) -> np.ndarray:
        """Item ids of the context, oldest first."""
        return self.sequence.item_H[: self.end]


def read_sequences(shard: str | Path, batch_users: int = 256) -> Iterator[UserSequence]:
    """The sequences of one Parquet shard, a few users in memory at a time."""
    for batch in pq.ParquetFile(shard).iter_batches(batch_size=batch_users):
        users = batch.column("user_id").to_pylist()
        edges = pc.list_value_length(batch.column("split")).to_numpy().cumsum().tolist()
        names = [name for name in _LISTS if name in batch.schema.names]
        flat = {_LISTS[name]: pc.list_flatten(batch.column(name)).to_numpy(zero_copy_only=False) for name in names}
        if TOLD in batch.schema.names:
            codes = pc.list_flatten(batch.column(TOLD)).to_numpy()
            flat["told_HF"] = codes.reshape(len(flat["split_H"]), -1) if len(codes) else codes.reshape(0, 0)
        for user, start, end in zip(users, [0, *edges[:-1]], edges, strict=True):
            yield UserSequence(user, **{name: values[start:end] for name, values in flat.items()})


def requests_in(sequence: UserSequence, split: str, target_action: str = "conversion") -> list[Request]:
    """The requests of `split` ("train", "validation" or "test") that have a target, oldest first."""
    is_target_H = (sequence.action_H == ACTIONS.index(target_action)) & (sequence.split_H == SPLITS.index(split))
    positions = np.flatnonzero(is_target_H)
    grouped: dict[str, list[int]] = {}
    for position in positions:
        grouped.setdefault(str(sequence.request_H[position]), []).append(int(position))
    starts = _first_times(sequence, grouped)
    return [_request(sequence, name, starts[name], np.array(places)) for name, places in grouped.items()]


def _first_times(sequence: UserSequence, names: dict[str, list[int]]) -> dict[str, int]:
    """When each request began: its earliest event, target or not."""
    ids = [str(name) for name in reversed(sequence.request_H.tolist())]
    first = dict(zip(ids, range(len(ids) - 1, -1, -1), strict=True))  # of one id's positions the last one stays
    return {name: int(sequence.timestamp_H[first[name]]) for name in names}


def _request(sequence: UserSequence, name: str, now_ms: int, target_positions: np.ndarray) -> Request:
    end = sequence.count_before(now_ms)
    scene = str(sequence.scene_H[target_positions[0]])
    return Request(sequence, name, now_ms, end, scene, target_positions)


_LISTS = {
    "split": "split_H",
    "request_id": "request_H",
    "timestamp": "timestamp_H",
    "item_id": "item_H",
    "item_kind": "kind_H",
    "scene": "scene_H",
    "action": "action_H",
    "value": "value_H",
    TARGET_VALUE: "target_value_H",
}
