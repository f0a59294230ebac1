"""User histories that replicas read: what one is, and what every store of them does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from adbeam.logs.trending import WINDOWS_HOURS
from adbeam.logs.user_events import UserEvents
from adbeam.records import ACTIONS, HOUR_MS, ITEM_KINDS, Event


@dataclass(frozen=True)
class UserHistory(UserEvents):
    """What is known about a user, oldest first. H events; `action_H` and `kind_H` index ACTIONS and ITEM_KINDS."""

    item_ids: list[str]
    timestamp_H: NDArray[np.int64]
    action_H: NDArray[np.int8]
    kind_H: NDArray[np.int8]
    value_H: NDArray[np.float32]

    def newest(self, count: int) -> UserHistory:
        """The last `count` events."""
        return self if len(self) <= count else self.part(slice(len(self) - count, None))

    def extended(self, other: UserHistory) -> UserHistory:
        """Both histories in time order; equal times keep their order."""
        timestamp_H = np.concatenate([self.timestamp_H, other.timestamp_H])
        order = np.argsort(timestamp_H, kind="stable")
        item_ids = self.item_ids + other.item_ids
        return UserHistory(
            [item_ids[place] for place in order],
            timestamp_H[order],
            np.concatenate([self.action_H, other.action_H])[order],
            np.concatenate([self.kind_H, other.kind_H])[order],
            np.concatenate([self.value_H, other.value_H])[order],
        )


def user_history(rows: Iterable[tuple[str, int, int, int, float]]) -> UserHistory:
    """A history from (item_id, timestamp_ms, action index, kind index, value) rows, put in time order."""
    ordered = sorted(rows, key=lambda row: row[1])
    item_ids, timestamps, actions, kinds, values = zip(*ordered, strict=True) if ordered else ((), (), (), (), ())
    return UserHistory(
        list(item_ids),
        np.array(timestamps, np.int64),
        np.array(actions, np.int8),
        np.array(kinds, np.int8),
        np.array(values, np.float32),
    )


EMPTY = user_history(())
UNREAD = user_history(())
"""In place of a history that could not be read: nothing is known of the user, not even that there is nothing."""


HourCount = tuple[int, str, int]
"""(hour since 1970, item, its ad conversions in that hour)."""
KEPT_HOURS = WINDOWS_HOURS[-1] + 24
"""Counts of older hours may go."""
DAY_SECONDS = 24 * 3600


class Known(NamedTuple):
    """What is kept of a user; None where there is nothing."""

    history: UserHistory | None = None
    profile: str | None = None


class Forgotten(NamedTuple):
    """What was kept of a user until it was forgotten."""

    profile: bool
    history: bool


class HistoryStore(Protocol):
    """Keyed histories, and the profiles beside them. Implementations are safe to call from several threads."""

    def recent(self, user_id: str) -> UserHistory | None:
        """The user's newest events, or None for an unknown user."""

    def recent_many(self, user_ids: Sequence[str]) -> list[UserHistory | None]:
        """`recent` of each, at the cost of one round trip."""

    def known_many(self, user_ids: Sequence[str]) -> list[Known]:
        """History and profile of each, at the cost of one round trip for both."""

    def put_profiles(self, profiles: Mapping[str, str]) -> None:
        """Write profiles, by user, in place of those before; an empty one takes it out. Each is kept `profile_days`."""

    def forget(self, user_id: str) -> Forgotten:
        """Take out what is kept of a user; for each part, whether there was any."""

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Add events; for each, whether its id was new (false: counted before, ignored)."""

    def conversions(self, hour: int) -> tuple[Counter[str], ...]:
        """{item: ad conversions} of every window of logs.trending that ends where `hour` (since 1970) begins."""

    def fill(
        self, source: str, histories: Iterable[tuple[str, UserHistory]], conversions: Iterable[HourCount] = ()
    ) -> int:
        """Write many histories once in the life of the store; returns users written, 0 when it was filled before.

        `conversions` are the ad conversions among their events, `source` is remembered. Neither is read when there is
        nothing to do. Of several that call it at once, one writes and the others wait.
        """

    def close(self) -> None:
        """Release files and connections."""


@runtime_checkable
class RemembersBatches(Protocol):
    """A store that an event log can ask again after a death: it says of a batch what it said the first time."""

    def append_once(self, source: str, number: int, events: Sequence[Event]) -> list[bool]:
        """Add the events of batch `number` of `source`, on the disk when this returns; for each, whether its id was
        new. The same batch again changes nothing and is answered as it was."""

    def forget_source(self, source: str) -> None:
        """No batch of `source` will come again."""


def hour_counts(events: Iterable[Event]) -> list[HourCount]:
    """The ad conversions among events, counted by hour."""
    counted = Counter(
        (event.timestamp // HOUR_MS, event.item_id)
        for event in events
        if event.action == "conversion" and event.item_kind == "ad"
    )
    return [(hour, item, count) for (hour, item), count in counted.items()]


def event_row(event: Event) -> tuple[str, int, int, int, float]:
    """An event as a history keeps it; its value is the conversion's price, or the bid or eCPM of a lesser action."""
    value = event.price if event.action == "conversion" else next((v for v in (event.bid, event.ecpm) if v), None)
    kind, action = ITEM_KINDS.index(event.item_kind), ACTIONS.index(event.action)
    return event.item_id, event.timestamp, action, kind, float(value or 0.0)


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return int(time.time() * 1000)
