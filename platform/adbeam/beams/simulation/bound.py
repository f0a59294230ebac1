"""What no schedule can beat: fluid service that knows every slow-down in advance.

A core works on one request after the other in order of deadlines, at the speed of each moment, with nothing lost to
scatter or to batches that end together; a batch's fixed cost is shared by a largest batch. All requests have the same
cost and the same time to their deadline, so serving each one that can still be served is best: another choice of as
many requests never leaves the core free sooner.
"""

from __future__ import annotations

import numpy as np

from adbeam.beams.ladder import Ladder, Rung
from adbeam.beams.simulation.slow_downs import Speed
from adbeam.beams.simulation.world import SimulationConfig

Window = tuple[float, float]


def servable(world: SimulationConfig, ladder: Ladder, max_batch: int, planned_ms_N: np.ndarray) -> np.ndarray:
    """Which requests N, sent at `planned_ms_N` (rising), one replica can answer in time at the floor: no schedule
    answers more of them."""
    need_ms = _request_ms(world, ladder.rungs[ladder.floor], max_batch)
    free_ms, served = 0.0, []
    for begin_ms, end_ms in _windows(world, planned_ms_N):
        done_ms = max(free_ms, begin_ms) + need_ms
        served.append(done_ms <= end_ms)
        free_ms = done_ms if served[-1] else free_ms
    return np.array(served, dtype=bool)


def allowed_full_width_share(
    world: SimulationConfig, ladder: Ladder, max_batch: int, planned_ms_N: np.ndarray
) -> float:
    """The largest mean width of requests sent at `planned_ms_N` (rising), as a share of full width; a request without
    an answer by the model counts as width 0. Work on a request is worth width in proportion, up to full width: no rung
    has more width for its cost."""
    need_ms = _request_ms(world, ladder.rungs[ladder.full], max_batch)
    free_ms, worked = 0.0, []
    for begin_ms, end_ms in _windows(world, planned_ms_N):
        start_ms = max(free_ms, begin_ms)
        worked.append(max(min(need_ms, end_ms - start_ms), 0.0))
        free_ms = start_ms + worked[-1] if worked[-1] > 0 else free_ms
    return float(np.mean(worked)) / need_ms


def _request_ms(world: SimulationConfig, rung: Rung, max_batch: int) -> float:
    return world.cost.a_ms / max_batch + world.cost.request_ms(rung.rows)


def _windows(world: SimulationConfig, planned_ms_N: np.ndarray) -> list[Window]:
    """From arrival to deadline, less the way of the answer, in work that the core can do since time 0."""
    speed = Speed(world.slow_down, world.seed)
    granted_ms = world.deadline_ms - world.reply_ms
    return [(speed.work_ms(sent_ms), speed.work_ms(sent_ms + granted_ms)) for sent_ms in planned_ms_N.tolist()]
