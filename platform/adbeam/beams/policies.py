"""The four beam policies, which choose a rung: pure, driven by one `Load` per batch.

`deadline` is adbeam's. `tabs` is GR4AD's traffic-aware beam search (1.8.2) with its printed floor of 1.0; `tabs_floor`
is the strongest reading of it, the same law allowed down to the lowest rung. `static` always searches at full width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from adbeam.beams.backlog import Backlog
from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.ladder import Ladder
from adbeam.beams.paces import Paces
from adbeam.imports.extension_points import POLICIES

BRIDGED_UTILISATION = 1.1
"""Where times scatter full width is kept up to here: the mean of some seconds comes and goes with storms, and a cut of
single batches bridges them."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a policy sees when the next batch is formed. Paces have one entry a rung: as of the last batches, quick (as
    good as may be hoped), cautious (covering the usual scatter of batch times), and steady (as of the last seconds).
    `scattered`: batch times scatter as beside a neighbour, and paces are shares of what batches took."""

    now_ms: float
    backlog: Backlog
    paces: Paces
    quick_paces: Paces
    cautious_paces: Paces
    steady_paces: Paces
    rate_per_second: float
    average_rate_per_second: Callable[[], float]
    scattered: bool

    def utilisation(self, rung: int) -> float:
        """Share of the time the replica would be busy at `rung`."""
        return self.rate_per_second * self.steady_paces[rung].busy_ms() / 1000.0


class RungPolicy(Protocol):
    """Chooses the rung of the next batch."""

    def choose(self, load: Load) -> int:
        """Index of the rung."""


class StaticPolicy:
    """Always full width."""

    def __init__(self, ladder: Ladder, config: BeamPolicyConfig, rung: int, now_ms: float) -> None:
        self._full = ladder.full

    def choose(self, load: Load) -> int:
        """The full rung."""
        return self._full


@dataclass(slots=True)
class _Setback:
    """A rung that had to be given up: when, at which arrival rate, and how long it is then left alone."""

    at_ms: float
    rate_per_second: float
    hold_ms: float


class DeadlinePolicy:
    """The widest rung with which the backlog drains inside its deadlines and utilisation stays below a bound.

    Cuts at once and as far as needed. Widens one rung per interval, past a dead band, and not into a rung that was
    given up at about this load before its hold has passed; the hold doubles with each setback, so steady load finds its
    rung.
    """

    def __init__(self, ladder: Ladder, config: BeamPolicyConfig, rung: int, now_ms: float) -> None:
        self._ladder, self._config = ladder, config
        self._rung = rung
        self._changed_ms = self._seen_ms = now_ms
        self._setbacks: dict[int, _Setback] = {}

    def choose(self, load: Load) -> int:
        """The rung after at most one cut or one widening (more only after a pause without batches)."""
        load = self._without_hopeless(load)
        if load.scattered:
            return self._choose_scattered(load)
        idle_ms, self._seen_ms = load.now_ms - self._seen_ms, load.now_ms
        needed = next((rung for rung in range(self._rung, len(self._ladder)) if self._holds(load, rung)), None)
        if needed is None:
            needed = self._ladder.floor
        if needed > self._rung:
            self._note_setback(load)
            self._move(needed, load.now_ms)
        elif load.now_ms - self._changed_ms >= self._config.widen_interval_ms:
            self._widen(load, 1 + int(idle_ms / self._config.widen_interval_ms))
        return self._rung

    def _choose_scattered(self, load: Load) -> int:
        """Where batch times scatter, a backlog is the last storm's and says nothing of the next batches: it cuts this
        one alone. What is remembered follows the utilisation, at the mean pace of some seconds, with no hold."""
        widest = self._widest(load, self._config.utilisation_bound, 0)
        narrowest = self._widest(load, self._config.widen_utilisation, widest)
        rung = min(max(self._rung, widest), narrowest)
        self._seen_ms = load.now_ms
        if rung != self._rung:
            self._move(rung, load.now_ms)
        paces = load.cautious_paces
        return next((r for r in range(rung, len(paces)) if load.backlog.drains(paces[r])), self._ladder.floor)

    def _widest(self, load: Load, utilisation: float, wider: int) -> int:
        """The widest rung from `wider` down that keeps the replica no busier, the floor where none does; full width
        where it can be bridged."""
        rungs, full = range(wider, len(self._ladder)), self._ladder.full
        bridged = wider <= full and load.utilisation(full) <= BRIDGED_UTILISATION
        fits = (rung for rung in rungs if (bridged and rung == full) or load.utilisation(rung) <= utilisation)
        return next(fits, self._ladder.floor)

    def _without_hopeless(self, load: Load) -> Load:
        """The load less requests that no rung can answer in time: they must not narrow the beams of the others."""
        if not self._config.answer_late_early:
            return load  # they will be decoded all the same
        hopeless = load.backlog.surely_late(load.cautious_paces[self._ladder.floor])
        return replace(load, backlog=load.backlog.without(hopeless)) if hopeless else load

    def _holds(self, load: Load, rung: int) -> bool:
        in_bound = load.utilisation(rung) <= self._config.utilisation_bound
        return in_bound and load.backlog.drains(load.cautious_paces[rung])

    def _widen(self, load: Load, steps: int) -> None:
        for _ in range(steps):
            wider = self._rung - 1
            if wider < 0 or load.utilisation(wider) > self._config.widen_utilisation or self._held_back(load, wider):
                return
            if not load.backlog.drains(load.cautious_paces[wider], self._config.widen_slack):
                return
            self._move(wider, load.now_ms)

    def _held_back(self, load: Load, rung: int) -> bool:
        setback = self._setbacks.get(rung)
        if setback is None or load.rate_per_second < self._config.relief_share * setback.rate_per_second:
            return False
        return load.now_ms - setback.at_ms < setback.hold_ms

    def _note_setback(self, load: Load) -> None:
        last = self._setbacks.get(self._rung)
        hold_ms = 1000.0 * self._config.hold_seconds
        if load.utilisation(self._rung) < self._config.calm_utilisation:
            hold_ms = 1000.0 * self._config.calm_hold_seconds
        elif last is not None and load.now_ms - last.at_ms < 4 * last.hold_ms:
            hold_ms = min(2 * last.hold_ms, 1000.0 * self._config.max_hold_seconds)
        self._setbacks[self._rung] = _Setback(load.now_ms, load.rate_per_second, hold_ms)

    def _move(self, rung: int, now_ms: float) -> None:
        self._rung, self._changed_ms = rung, now_ms


class TabsPolicy:
    """B = B_base * f, f = clip(1 + gain * h, floor, 1 + gain), h = (C - Q) / C (GR4AD 1.8.2; f is our reading).

    Q is the average rate, C the rate one replica sustains at full width. As `tabs_floor` f may fall to the lowest rung.
    """

    def __init__(self, ladder: Ladder, config: BeamPolicyConfig, rung: int, now_ms: float) -> None:
        self._ladder, self._law = ladder, config.tabs
        to_floor = config.policy == "tabs_floor"
        full_rows = ladder.rungs[ladder.full].rows
        self._least = ladder.rungs[ladder.floor].rows / full_rows if to_floor else 1.0
        self._factor = 1.0

    def choose(self, load: Load) -> int:
        """The widest rung within f times the rows of full width."""
        capacity = 1000.0 / load.steady_paces[self._ladder.full].busy_ms()
        headroom = (capacity - load.average_rate_per_second()) / capacity
        factor = min(max(1.0 + self._law.gain * headroom, self._least), 1.0 + self._law.gain)
        if abs(factor - self._factor) > self._law.dead_band or factor in (self._least, 1.0 + self._law.gain):
            self._factor = factor
        return self._ladder.widest_within(self._factor * self._ladder.rungs[self._ladder.full].rows)


def build_policy(ladder: Ladder, config: BeamPolicyConfig, rung: int, now_ms: float) -> RungPolicy:
    """The policy `config` names, starting from `rung`."""
    policy: RungPolicy = POLICIES.load(config.policy)(ladder, config, rung, now_ms)
    return policy
