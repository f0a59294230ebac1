"""A user's history as a model knows it: when, what and, in place of an item's id, its semantic ID (features/tokens.py
makes tokens of it). Numpy only.

Shapes: H events of the history, T SID levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from adbeam.logs.user_events import UserEvents


@dataclass(frozen=True)
class History(UserEvents):
    """One user's events, oldest first; items without a SID are left out."""

    code_HT: np.ndarray
    """int, SID codes, and behind them the codes of the item's declared features where the model is told any."""
    timestamp_H: np.ndarray
    action_H: np.ndarray
    kind_H: np.ndarray
    value_H: np.ndarray

    @classmethod
    def of(cls, events: UserEvents, code_hT: np.ndarray, known_H: np.ndarray | None = None) -> Self:
        """Those of `events` that `known_H` marks (all without it), whose items have the codes `code_hT` as
        `SidTable.describe` gives them."""
        columns = (events.timestamp_H, events.action_H, events.kind_H, events.value_H)
        return cls(code_hT, *(columns if known_H is None else (column[known_H] for column in columns)))

    @classmethod
    def empty(cls, levels: int) -> Self:
        """The history of an unknown user."""
        none = np.zeros(0, dtype=np.int64)
        return cls(np.zeros((0, levels), dtype=np.int64), none, none, none, np.zeros(0, dtype=np.float32))
