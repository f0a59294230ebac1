"""One user's events, oldest first, and how they are cut at a moment: written once for all that hold such columns.

A log's sequence (`logs.requests.UserSequence`), a replica's history (`serving.stores.store.UserHistory`), a model's
history (`features.history.History`) and the reward model's past (`rewards.features.Past`) differ in what names an item:
its id, its codes, its row in a table. Each is a dataclass that declares its own columns; H events.
"""

from __future__ import annotations

from typing import Self

import numpy as np


class EventColumns:
    """Base of dataclasses whose fields are columns [H] of one user's events; a string is the user, None a column that
    nobody told."""

    timestamp_H: np.ndarray
    """int64, milliseconds since 1970, UTC, rising."""

    def __len__(self) -> int:
        return len(self.timestamp_H)

    def count_before(self, moment_ms: int) -> int:
        """How many events lie strictly before a moment."""
        return int(np.searchsorted(self.timestamp_H, moment_ms, side="left"))

    def before(self, moment_ms: int) -> Self:
        """The events strictly before a moment."""
        end = self.count_before(moment_ms)
        return self if end == len(self) else self.part(slice(0, end))

    def part(self, events: slice) -> Self:
        """Some of the events, in their order."""
        columns = vars(self).items()
        return type(self)(
            **{name: value if value is None or isinstance(value, str) else value[events] for name, value in columns}
        )


class UserEvents(EventColumns):
    """What every source tells of an event, whatever names its item."""

    action_H: np.ndarray
    """int, index into records.ACTIONS."""
    kind_H: np.ndarray
    """int, index into records.ITEM_KINDS."""
    value_H: np.ndarray
    """float, what the event was worth."""
