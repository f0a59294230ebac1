"""What each request sees of its user's history: events before its moment, and of each item how often and how lately.

Requests of one user share his history: his events are grouped by item once, and what a request sees of an item follows
from a running count over the moments. A batch of other users' requests is the case of one moment a history.

Shapes: U histories, E events of all of them, R requests by history and moment, N distinct items (the same item of two
histories counts twice), P pairs of an item and a request of its history, n any of them, T SID levels,
X a SID and the codes of the item's declared features behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from adbeam.features.history import History
from adbeam.records import ACTIONS

_IMPRESSION = ACTIONS.index("impression")


@dataclass(frozen=True)
class SeenEvents:
    """The events that count, history by history, oldest first; request r sees [start_R[r], end_R[r]) of them."""

    owner_E: np.ndarray
    """Which history an event is of."""
    code_ET: np.ndarray
    told_EK: np.ndarray
    """Codes of the declared features of the event's item; K columns, none where the model is told none."""
    timestamp_E: np.ndarray
    action_E: np.ndarray
    kind_E: np.ndarray
    value_E: np.ndarray
    first_U: np.ndarray
    """Each history's first request."""
    asked_U: np.ndarray
    """Each history's number of requests."""
    place_R: np.ndarray
    """Where the request stands among those that were asked for."""
    now_ms_R: np.ndarray
    start_R: np.ndarray
    end_R: np.ndarray

    @classmethod
    def of(cls, histories: Sequence[History], now_ms_B: np.ndarray, levels: int) -> Self:
        """Of one history a request; neighbours that are the same object share their events. SIDs have `levels`
        codes."""
        distinct, base_B = _distinct(histories)
        place_R = np.lexsort((now_ms_B, base_B))
        base_R, now_ms_R = base_B[place_R], now_ms_B[place_R]
        asked_U = np.bincount(base_R, minlength=len(distinct))
        last_U = np.cumsum(asked_U) - 1
        owner_E, code_EX, timestamp_E, action_E, kind_E, value_E = _columns(distinct, now_ms_R[last_U])
        count_U = np.bincount(owner_E, minlength=len(distinct))
        start_R = (np.cumsum(count_U) - count_U)[base_R]
        end_R = start_R + count_U[base_R]
        if len(distinct) < len(base_R):
            end_R = _ends(timestamp_E, start_R, end_R, now_ms_R, last_U)
        return cls(
            owner_E=owner_E,
            code_ET=code_EX[:, :levels],
            told_EK=code_EX[:, levels:],
            timestamp_E=timestamp_E,
            action_E=action_E,
            kind_E=kind_E,
            value_E=value_E,
            first_U=last_U + 1 - asked_U,
            asked_U=asked_U,
            place_R=place_R,
            now_ms_R=now_ms_R,
            start_R=start_R,
            end_R=end_R,
        )


def _distinct(histories: Sequence[History]) -> tuple[list[History], np.ndarray]:
    distinct: list[History] = []
    base = []
    for history in histories:
        if not distinct or history is not distinct[-1]:
            distinct.append(history)
        base.append(len(distinct) - 1)
    return distinct, np.array(base, dtype=np.int64)


def _columns(histories: Sequence[History], latest_ms_U: np.ndarray) -> tuple[np.ndarray, ...]:
    """Owner, code, time, action, kind and value of the events that are no impressions and that some request sees."""
    owner_E = np.arange(len(histories)).repeat([len(history) for history in histories])
    timestamp_E = np.concatenate([history.timestamp_H for history in histories])
    action_E = np.concatenate([history.action_H for history in histories])
    code_EX = np.concatenate([history.code_HT for history in histories])
    kind_E = np.concatenate([history.kind_H for history in histories])
    value_E = np.concatenate([history.value_H for history in histories])
    columns = (owner_E, code_EX, timestamp_E, action_E, kind_E, value_E)
    kept_E = (action_E > _IMPRESSION) & (timestamp_E < latest_ms_U[owner_E])
    return columns if kept_E.all() else tuple(column[kept_E] for column in columns)


def _ends(
    timestamp_E: np.ndarray, start_R: np.ndarray, end_R: np.ndarray, now_ms_R: np.ndarray, last_U: np.ndarray
) -> np.ndarray:
    """Behind the last event of its history that each request sees."""
    seen_R = end_R.copy()
    first = 0
    for last in last_U.tolist():
        if last > first:
            events, requests = slice(start_R[first], end_R[first]), slice(first, last)
            seen_R[requests] = start_R[first] + np.searchsorted(timestamp_E[events], now_ms_R[requests])
        first = last + 1
    return seen_R


@dataclass(frozen=True)
class SeenItems:
    """The items of the events, and how much of each a request sees.

    `order_E` sorts the events by history, item and place. A pair lies at `offset_N` of its item plus the number of the
    request among those of the history.
    """

    events: SeenEvents
    order_E: np.ndarray
    item_E: np.ndarray
    start_N: np.ndarray
    """Where in `order_E` an item begins."""
    offset_N: np.ndarray
    seen_P: np.ndarray
    """Where in `order_E` what the request sees of the item ends."""

    @classmethod
    def of(cls, events: SeenEvents) -> Self:
        order_E, new_E = grouped(events.owner_E, events.code_ET)
        item_E = np.empty(len(order_E), dtype=np.int64)
        item_E[order_E] = np.cumsum(new_E) - 1
        start_N = new_E.nonzero()[0]
        asked_N = events.asked_U[events.owner_E[order_E[start_N]]]
        offset_N = np.cumsum(asked_N) - asked_N
        pair_E = offset_N[item_E] + _first_request(events) - events.first_U[events.owner_E]
        seen_P = np.cumsum(np.bincount(pair_E, minlength=int(asked_N.sum())))
        return cls(events, order_E, item_E, start_N, offset_N, seen_P)

    def of_events(self, request_n: np.ndarray, event_n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(how often the request saw the event's item, when first, when last: milliseconds)."""
        item_n = self.item_E[event_n]
        pair_n = self.offset_N[item_n] + request_n - self.events.first_U[self.events.owner_E[event_n]]
        start_n, seen_n = self.start_N[item_n], self.seen_P[pair_n]
        first_ms_n, last_ms_n = (self.events.timestamp_E[self.order_E[place_n]] for place_n in (start_n, seen_n - 1))
        return seen_n - start_n, first_ms_n, last_ms_n

    def newest(self) -> tuple[np.ndarray, np.ndarray]:
        """(newest event of every item that a request has seen, items of each request [R]): request by request, the
        items that it saw least often first, of equally frequent ones the older."""
        asked_N = np.diff(self.offset_N, append=len(self.seen_P))
        count_P = self.seen_P - self.start_N.repeat(asked_N)
        first_N = self.events.first_U[self.events.owner_E[self.order_E[self.start_N]]]
        request_P = np.arange(len(count_P)) - (self.offset_N - first_N).repeat(asked_N)
        newest_P = self.order_E[self.seen_P - 1]
        if not count_P.all():
            seen = count_P.nonzero()[0]
            count_P, request_P, newest_P = count_P[seen], request_P[seen], newest_P[seen]
        items_R = np.bincount(request_P, minlength=len(self.events.end_R))
        return _in_order(request_P, count_P, newest_P, len(self.order_E)), items_R


def _first_request(events: SeenEvents) -> np.ndarray:
    """The first request that sees each event [E]."""
    E = len(events.owner_E)
    return np.cumsum(np.bincount(events.end_R, minlength=E + 1))[:E]


def _in_order(request_n: np.ndarray, count_n: np.ndarray, event_n: np.ndarray, events: int) -> np.ndarray:
    """`event_n` by request, count and event; as one integer where the three fit into 63 bits."""
    event_bits, count_bits = int(events).bit_length(), int(count_n.max(initial=0)).bit_length()
    if int(request_n.max(initial=0)).bit_length() + count_bits + event_bits > 63:
        ordered: np.ndarray = event_n[np.lexsort((event_n, count_n, request_n))]
        return ordered
    key_n = np.sort((((request_n << count_bits) | count_n) << event_bits) | event_n)
    return key_n & ((1 << event_bits) - 1)


def grouped(owner_E: np.ndarray, code_ET: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Events in the order of history, item and place, and where in that order a group begins.

    Where history, codes and place fit into 63 bits together, one sort of plain integers does it: several times as fast
    as sorting by keys.
    """
    E = len(owner_E)
    place_bits, key_E = int(E).bit_length(), owner_E.astype(np.int64)
    bits = place_bits + int(owner_E[-1]).bit_length()
    for code_E in code_ET.T:
        size = int(code_E.max()).bit_length()
        bits += size
        key_E = (key_E << size) | code_E
    if bits <= 63:
        key_E = np.sort((key_E << place_bits) | np.arange(E))
        order_E, key_E = key_E & ((1 << place_bits) - 1), key_E >> place_bits
        return order_E, np.diff(key_E, prepend=-1) != 0
    order_E = np.lexsort((*code_ET.T, owner_E))
    keys = np.concatenate([owner_E[:, None], code_ET], axis=1)[order_E]
    return order_E, np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)])
