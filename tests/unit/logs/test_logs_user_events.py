"""A user's events are cut at a moment in one way, whatever names their items."""

from __future__ import annotations

import numpy as np
import pytest

from adbeam.features.history import History
from adbeam.logs.requests import UserSequence
from adbeam.logs.user_events import UserEvents
from adbeam.rewards.features import Past
from adbeam.serving.stores.store import user_history

TIME_H = np.array([10, 20, 20, 30])
INDEX_H, NAME_H, VALUE_H = np.arange(4), np.array(["a", "b", "c", "d"], dtype=object), np.arange(4.0)

KINDS = [
    UserSequence("user", INDEX_H, NAME_H, TIME_H, NAME_H, INDEX_H, NAME_H, INDEX_H, VALUE_H),
    user_history([("a", 10, 0, 0, 0.0), ("b", 20, 1, 1, 1.0), ("c", 20, 2, 0, 2.0), ("d", 30, 3, 1, 3.0)]),
    History(np.stack([INDEX_H, INDEX_H], axis=1), TIME_H, INDEX_H, INDEX_H, VALUE_H),
    Past(INDEX_H, TIME_H, INDEX_H),
]


@pytest.mark.parametrize("events", KINDS, ids=lambda events: type(events).__name__)
def test_only_what_lies_strictly_before_a_moment_is_kept_in_every_column(events: UserEvents | Past) -> None:
    assert len(events) == 4 and [events.count_before(moment) for moment in (10, 20, 21, 31)] == [0, 1, 3, 4]
    past = events.before(21)
    columns = [value for value in vars(past).values() if not isinstance(value, str | None)]
    assert type(past) is type(events) and {len(column) for column in columns} == {3}
    assert past.timestamp_H.tolist() == [10, 20, 20] and past.action_H.tolist() == [0, 1, 2]
    assert events.before(31) is events and len(events.before(0)) == 0
