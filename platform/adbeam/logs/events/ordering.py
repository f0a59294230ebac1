"""The events of a shard by user and time, without exact duplicates.

Most rows are the only one of their user and event_id: only the others are compared as a whole, and words are compared
only where user and time are the same. E events.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def ordered_events(events: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """(events by user and time without exact duplicates, which of them have an event_id that an earlier event of the
    user has: bool [E])."""
    events = events.combine_chunks()
    own = _occurs_once(_owners(events))
    if not own.all():
        others = events.filter(pa.array(~own))
        distinct = others.group_by(others.column_names, use_threads=False).aggregate([])
        events = pa.concat_tables([events.filter(pa.array(own)), distinct.select(events.column_names)])
    ordered = events.take(pa.array(_event_order(events))).combine_chunks()
    repeated = np.zeros(ordered.num_rows, dtype=bool)
    if not own.all():
        repeated[:] = True
        repeated[np.unique(_owners(ordered), return_index=True)[1]] = False
    return ordered, repeated


def _owners(events: pa.Table) -> np.ndarray:
    """A number for each (user, event_id)."""
    owner = pc.binary_join_element_wise(events["user_id"], events["event_id"], "\x00").combine_chunks()
    numbers: np.ndarray = owner.dictionary_encode().indices.to_numpy()
    return numbers


def _occurs_once(number_E: np.ndarray) -> np.ndarray:
    once: np.ndarray = np.bincount(number_E, minlength=1)[number_E] == 1
    return once


def _event_order(events: pa.Table) -> np.ndarray:
    """Places of the events by user and time; words are compared only where both are the same."""
    user_E = _ranks(events["user_id"].combine_chunks())
    time_E = events["timestamp"].to_numpy()
    order_E: np.ndarray = np.lexsort((time_E, user_E))
    same = (np.diff(user_E[order_E]) == 0) & (np.diff(time_E[order_E]) == 0)
    tied = np.append(same, False) | np.insert(same, 0, False)
    if tied.any():
        places = order_E[tied]
        keys = ("user_id", "timestamp", "request_id", "position", "event_id")
        among = events.select(keys).take(pa.array(places))
        by_words = pc.sort_indices(among, sort_keys=[(key, "ascending") for key in keys])
        order_E[tied] = places[by_words.to_numpy()]
    return order_E


def _ranks(words: pa.Array) -> np.ndarray:
    """Each word's place among the distinct ones in rising order."""
    encoded = words.dictionary_encode()
    rank = np.empty(len(encoded.dictionary), dtype=np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank))
    rank_E: np.ndarray = rank[encoded.indices.to_numpy()]
    return rank_E
