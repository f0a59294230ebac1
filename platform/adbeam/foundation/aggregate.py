"""Many cross representations of one user, or one item, as one: a monoid, so that shards and retries need no order.

By time (LFM4Ads 3.1, its text): a state is (total, weight, moment), and both fade with the time between moments:

    T = max(t_a, t_b);  total = total_a 2^(-(T - t_a) / h) + total_b 2^(-(T - t_b) / h);  weight alike

which is associative and commutative. By event (its public code, .99 an event):

    total = total_left share^(n_right) + total_right

which is associative only: it needs one user's events in their order. Either is read as LayerNorm(total / weight), with
the weight beside it, which tells how much is known. States are kept as (mean, weight): old totals would underflow.

Shapes: E width of a representation, R events, G moments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from adbeam.foundation.config import RepresentConfig
from adbeam.records import HOUR_MS

SMALLEST_WEIGHT = 1e-30
"""Below it a state is kept as if it weighed so much: it was long ago, and still is all that is known."""
EPSILON = 1e-5


@dataclass(frozen=True)
class State:
    """What is known at a moment: `mean_E` of `count` events that weigh `weight` by now."""

    mean_E: np.ndarray
    weight: float = 0.0
    time_ms: int = 0
    count: int = 0

    @classmethod
    def empty(cls, width: int) -> Self:
        """Of no event: the neutral element."""
        return cls(np.zeros(width))

    @classmethod
    def of(cls, vector_E: np.ndarray, time_ms: int) -> Self:
        """Of one event."""
        return cls(np.asarray(vector_E, np.float64), 1.0, time_ms, 1)


class Decay(Protocol):
    """How states are put together, and how weight fades until it is read."""

    def merge(self, left: State, right: State) -> State:
        """Both as one; `left` are the earlier events where the order counts."""

    def faded(self, weight_B: np.ndarray, time_ms_B: np.ndarray, now_ms_B: np.ndarray) -> np.ndarray:
        """Weights of states of these moments, read now."""


@dataclass(frozen=True)
class TimeDecay:
    """Half of an event's weight is gone after `half_life_ms`."""

    half_life_ms: float

    def merge(self, left: State, right: State) -> State:
        """See Decay; the order does not count."""
        if not left.count or not right.count:
            return left if left.count else right
        now = max(left.time_ms, right.time_ms)
        sizes = [one.weight * 2.0 ** (-(now - one.time_ms) / self.half_life_ms) for one in (left, right)]
        return _joined(left, right, sizes[0], sizes[1], now)

    def faded(self, weight_B: np.ndarray, time_ms_B: np.ndarray, now_ms_B: np.ndarray) -> np.ndarray:
        """See Decay."""
        age_B = np.maximum(now_ms_B - time_ms_B, 0)
        faded_B: np.ndarray = weight_B * 2.0 ** (-age_B / self.half_life_ms)
        return faded_B


@dataclass(frozen=True)
class EventDecay:
    """Each event leaves `share` of the weight of all before it, whenever they were."""

    share: float

    def merge(self, left: State, right: State) -> State:
        """See Decay; `left` comes before `right`."""
        if not left.count or not right.count:
            return left if left.count else right
        time_ms = max(left.time_ms, right.time_ms)
        return _joined(left, right, left.weight * self.share**right.count, right.weight, time_ms)

    def faded(self, weight_B: np.ndarray, time_ms_B: np.ndarray, now_ms_B: np.ndarray) -> np.ndarray:
        """See Decay: nothing fades without an event."""
        return weight_B


def _joined(left: State, right: State, left_weight: float, right_weight: float, time_ms: int) -> State:
    weight = max(left_weight + right_weight, SMALLEST_WEIGHT)
    share = right_weight / weight if left_weight + right_weight >= SMALLEST_WEIGHT else 0.5
    mean_E = left.mean_E + (right.mean_E - left.mean_E) * share
    return State(mean_E, weight, time_ms, left.count + right.count)


def decay_of(config: RepresentConfig) -> Decay:
    """What the settings name."""
    return EventDecay(config.event_share) if config.decay == "event" else TimeDecay(config.half_life_hours * HOUR_MS)


def scan(decay: Decay, vector_RE: np.ndarray, time_R: np.ndarray) -> Iterator[State]:
    """The state after each moment that has an event, oldest first; events in the order of their time."""
    state = State.empty(vector_RE.shape[1])
    for place in range(len(time_R)):
        state = decay.merge(state, State.of(vector_RE[place], int(time_R[place])))
        if place + 1 == len(time_R) or time_R[place + 1] != time_R[place]:
            yield state


def at(decay: TimeDecay, state: State, time_ms: int) -> State:
    """The same state, told as of a later moment."""
    weight = float(decay.faded(np.array(state.weight), np.array(state.time_ms), np.array(time_ms)))
    return replace(state, weight=max(weight, SMALLEST_WEIGHT), time_ms=time_ms)


def normalised(mean_BE: np.ndarray) -> np.ndarray:
    """float32 [B, E]: LayerNorm without scale, as the public code reads its table."""
    centred_BE = mean_BE - mean_BE.mean(1, keepdims=True)
    found: np.ndarray = (centred_BE / np.sqrt((centred_BE**2).mean(1, keepdims=True) + EPSILON)).astype(np.float32)
    return found
