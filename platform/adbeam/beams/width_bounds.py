"""Width bounds of requests: a cap and a minimum that a request asks for, within what the policy allows.

A cap makes a request cheaper and always holds, down to the ladder's floor. A minimum makes it dearer: it holds where
the policy's rung is narrower and the batch still ends in time, for itself and for who waits behind it, at a pace that
the load allows; else the policy's rung wins. No minimum reaches above full width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adbeam.beams.backlog import Backlog, Pace, QueuedRequest, finish_ms
from adbeam.beams.ladder import Ladder


def are_bounded(requests: Sequence[QueuedRequest]) -> bool:
    """Whether any of the requests asks for a bound."""
    return any(request.width_max is not None or request.width_min is not None for request in requests)


def bounded_rungs(
    rungs: Sequence[int],
    requests: Sequence[QueuedRequest],
    ladder: Ladder,
    batch_ms: Callable[[Sequence[int]], float],
    limit_ms: float,
) -> tuple[int, ...]:
    """The rungs of a batch with its requests' bounds: caps first, then minima in service order while `batch_ms` of the
    rungs stays within `limit_ms`."""
    pairs = list(zip(rungs, requests, strict=True))
    chosen = [capped(rung, ladder, request.width_max) for rung, request in pairs]
    for place, request in enumerate(requests):
        raised = [*chosen]
        raised[place] = widened(chosen[place], ladder, request)
        if raised[place] != chosen[place] and batch_ms(raised) <= limit_ms:
            chosen = raised
    return tuple(chosen)


def capped(rung: int, ladder: Ladder, width_max: int | None) -> int:
    """The widest rung from `rung` down whose last level has at most `width_max` beams; the floor where none has."""
    if width_max is None:
        return rung
    narrow = (place for place in range(rung, len(ladder)) if ladder.rungs[place].widths[-1] <= width_max)
    return next(narrow, ladder.floor)


def widened(rung: int, ladder: Ladder, request: QueuedRequest) -> int:
    """The narrowest rung from `rung` up to full width with the request's minimum; `rung` where its cap forbids it."""
    if request.width_min is None or rung <= ladder.full:
        return rung
    wide = (place for place in range(rung, ladder.full, -1) if ladder.rungs[place].widths[-1] >= request.width_min)
    found = next(wide, ladder.full)
    over_cap = request.width_max is not None and ladder.rungs[found].widths[-1] > request.width_max
    return rung if over_cap else found


def time_for_batch_ms(backlog: Backlog, size: int, pace: Pace) -> float:
    """How long a batch of the first `size` of the backlog may take so that they and all behind them, who then go on at
    `pace`, are in time."""
    limit_ms = float(backlog.slack_ms_Q[:size].min())
    waiting = len(backlog) - size
    if waiting == 0:
        return limit_ms
    after_ms_Q = finish_ms(waiting, pace, pace.batch)
    return min(limit_ms, float((backlog.slack_ms_Q[size:] - after_ms_Q).min()))
