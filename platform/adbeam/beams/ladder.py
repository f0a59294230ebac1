"""The ladder: a short list of width schedules from full down to a floor, each with its cost and its quality.

Rungs cut the early levels first and keep the last one wide as long as they can (GR4AD Table 4: [128, 256, 512] instead
of three times 512 costs 0.15 % of revenue and saves 31 % of the compute; cutting the last level alone costs 0.85 % and
saves little). Only Pareto rungs of (cost, quality) stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from adbeam.beams.config import LadderConfig
from adbeam.beams.cost import BatchCost, beam_rows
from adbeam.errors import UserError

Widths = tuple[int, ...]

LAST_LEVEL_SHARES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)
EARLY_LEVEL_SHARES = (1.0, 0.5, 0.25)
PRIOR_EXPONENT_EARLY, PRIOR_EXPONENT_LAST = 0.01, 0.1


@dataclass(frozen=True, slots=True)
class Rung:
    """One width schedule. `cost_ms` is what one more such request adds to a batch; `quality` is 1 at full width."""

    widths: Widths
    rows: int
    cost_ms: float
    quality: float

    @property
    def mean_width(self) -> float:
        """Mean beams over the levels."""
        return sum(self.widths) / len(self.widths)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs from the widest (index 0) to the floor; `full` is the index of the full widths.

    Rungs before `full` are wider than full: the off-peak bonus.
    """

    rungs: tuple[Rung, ...]
    full: int

    @classmethod
    def build(
        cls,
        full_widths: Sequence[int],
        cost: BatchCost | None = None,
        quality: Mapping[Widths, float] | None = None,
        config: LadderConfig | None = None,
    ) -> Self:
        """The Pareto rungs of `quality` (measured, by widths) and cost; without `quality`, of a prior that keeps the
        order of GR4AD Table 4. Full width always stays. Raises UserError when a measured ladder lacks full width."""
        config = config or LadderConfig()
        full_widths = tuple(full_widths)
        cost = cost or BatchCost(0.0, 0.0, 1.0)
        if quality is not None and full_widths not in quality:
            raise UserError(
                "ladder quality was measured for other widths",
                field="ladder_quality",
                value=[list(widths) for widths in quality],
                remedy=f"export the bundle again with full widths {list(full_widths)}",
            )
        candidates = [_rung(widths, cost, full_widths, quality) for widths in _known(full_widths, quality, config)]
        full = next(rung for rung in candidates if rung.widths == full_widths)
        rungs = _thin(_pareto(candidates, full), config.max_rungs)
        bonus = [_rung(widths, cost, full_widths, None) for widths in bonus_schedules(full_widths, config)]
        return cls(tuple(bonus + rungs), len(bonus))

    def __len__(self) -> int:
        return len(self.rungs)

    @property
    def floor(self) -> int:
        """Index of the narrowest rung."""
        return len(self.rungs) - 1

    def widest_within(self, rows: float) -> int:
        """Index of the widest rung with at most `rows` beam rows; the floor if none has."""
        return next((i for i, rung in enumerate(self.rungs) if rung.rows <= rows + 1e-9), self.floor)


def generate_schedules(full_widths: Sequence[int], config: LadderConfig | None = None) -> list[Widths]:
    """Candidate schedules, full first, then by falling rows: the last level at a share of its full width, the early
    levels at the same share or cut further. No level is wider than at full width."""
    config = config or LadderConfig()
    full = tuple(full_widths)
    least = min(config.min_final_width, full[-1])
    found: dict[Widths, None] = {full: None}
    for last_share in (share for share in LAST_LEVEL_SHARES if share >= config.floor_share - 1e-9):
        for early_share in EARLY_LEVEL_SHARES:
            share = last_share * early_share
            early = tuple(max(1, round(width * share)) for width in full[:-1])
            found[(*early, max(least, round(full[-1] * last_share)))] = None
    return sorted(found, key=lambda widths: (widths != full, -sum(widths), widths))


def bonus_schedules(full_widths: Sequence[int], config: LadderConfig) -> list[Widths]:
    """Schedules wider than full, widest first: the whole bonus and half of it."""
    extra = config.off_peak_bonus - 1.0
    shares = (1.0 + extra, 1.0 + extra / 2) if extra > 0 else ()
    return [tuple(round(width * share) for width in full_widths) for share in shares]


def quality_by_widths(ladder_quality: Mapping[str, Any] | None) -> dict[Widths, float] | None:
    """The bundle's `ladder_quality.json`, {"schedules": [{"widths": [...], "quality": q}, ...]}, as a mapping; None if
    it measured nothing."""
    schedules = (ladder_quality or {}).get("schedules") or []
    return {tuple(entry["widths"]): float(entry["quality"]) for entry in schedules} or None


def _known(full: Widths, quality: Mapping[Widths, float] | None, config: LadderConfig) -> Iterable[Widths]:
    """Schedules within the bounds of `config`: of those measured, if any were."""
    allowed = dict.fromkeys(generate_schedules(full, config))
    return allowed if quality is None else [widths for widths in quality if widths in allowed]


def _rung(widths: Widths, cost: BatchCost, full: Widths, quality: Mapping[Widths, float] | None) -> Rung:
    rows = beam_rows(widths)
    relative = prior_quality(widths, full) if quality is None else quality[widths] / max(quality[full], 1e-12)
    return Rung(widths, rows, cost.request_ms(rows), relative)


def prior_quality(widths: Widths, full: Widths) -> float:
    """Quality before it is measured: a power of each level's share, the last level weighing most (GR4AD Table 4)."""
    exponents = [PRIOR_EXPONENT_EARLY] * (len(full) - 1) + [PRIOR_EXPONENT_LAST]
    return math.prod(math.pow(w / f, e) for w, f, e in zip(widths, full, exponents, strict=True))


def _pareto(candidates: Sequence[Rung], full: Rung) -> list[Rung]:
    """Full width, then every cheaper rung that no rung at its cost or below equals in quality; by falling cost."""
    kept: list[Rung] = []
    best = -math.inf
    for rung in sorted(candidates, key=lambda rung: (rung.cost_ms, -rung.quality)):
        if rung is not full and rung.cost_ms < full.cost_ms and rung.quality > best:
            best = rung.quality
            kept.append(Rung(rung.widths, rung.rows, rung.cost_ms, min(rung.quality, full.quality)))
    return [full, *reversed(kept)]


def _thin(rungs: list[Rung], most: int) -> list[Rung]:
    """At most `most` rungs, evenly apart in log cost, both ends kept."""
    if len(rungs) <= most:
        return rungs
    if most == 1:
        return rungs[:1]
    top, bottom = math.log(rungs[0].cost_ms), math.log(rungs[-1].cost_ms)
    chosen = {0, len(rungs) - 1}
    for step in range(1, most - 1):
        goal = top + (bottom - top) * step / (most - 1)
        free = [i for i in range(len(rungs)) if i not in chosen]
        chosen.add(min(free, key=lambda i: abs(math.log(rungs[i].cost_ms) - goal)))
    return [rungs[i] for i in sorted(chosen)]
