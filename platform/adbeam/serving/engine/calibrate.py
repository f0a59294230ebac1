"""Calibration of cost: timed batches on this machine when a model is loaded; and whether it answers at all.

The whole path is timed, history and features included, not the decode alone; time in which it had no processor is not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from statistics import median

import numpy as np

from adbeam.beams.cost import BatchCost, beam_rows, fit
from adbeam.beams.ladder import Ladder, Widths
from adbeam.catalogue.blocked import Blocked
from adbeam.decoding.engines.lazyar_graphs import RecordedEngine
from adbeam.decoding.search import rounded_up
from adbeam.errors import UserError
from adbeam.records import HOUR_MS
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.request import HistoryEvent, Query
from adbeam.serving.processor.batch_clock import BatchClock

logger = logging.getLogger(__name__)

LEAST_MS = 1e-4
"""A fit to noisy times may say 0, and a request that costs nothing would make the capacity endless."""


def check(engine: ModelEngine) -> None:
    """Decode one request; raises UserError when the answer is not what a bundle must give."""
    narrow = tuple(min(8, width) for width in engine.full_widths)
    answer = engine.answer(probe_queries(engine, 1), [narrow])[0]
    if not answer.ads or not all(np.isfinite(ad["score"]) for ad in answer.ads):
        raise UserError(
            f"bundle {engine.version} gives no usable ad for a test request",
            field="bundle",
            remedy="train and export it again",
        )


def record(engine: ModelEngine, ladder: Ladder, max_batch: int, count_max: int) -> None:
    """Answer batches of every size and rung that traffic will bring, twice: then their CUDA graphs are recorded.

    The largest come first, so that no buffer moves once recordings read it.
    """
    queries, started = probe_queries(engine, max_batch, count_max), time.perf_counter()
    sizes = {min(rounded_up(size, RecordedEngine.multiple), max_batch) for size in range(1, max_batch + 1)}
    for size in sorted(sizes, reverse=True):
        for rung in ladder.rungs:
            for _ in range(2):
                engine.answer(queries[:size], [rung.widths] * size)
    logger.info("decoded %d sizes at %d rungs for CUDA graphs in %.1f s",
                len(sizes), len(ladder), time.perf_counter() - started)  # fmt: skip


def calibrate(engine: ModelEngine, ladder: Ladder, max_batch: int, seconds: float) -> BatchCost:
    """Fit the cost of a batch to timed answers of several batch sizes and rungs, for about `seconds`."""
    queries = probe_queries(engine, max_batch)
    sizes = {1, max(1, max_batch // 4), max_batch}
    schedules = {ladder.rungs[rung].widths for rung in (ladder.full, (ladder.full + ladder.floor) // 2, ladder.floor)}
    batch = BatchClock()

    def decode(size: int, widths: Widths) -> None:
        batch.start(engine)
        engine.answer(queries[:size], [widths] * size)

    def lost_seconds() -> float:
        return batch.off_cpu_ms() / 1000.0 if batch.source == "run_queue" else 0.0

    found = fit(*timed(decode, sizes, schedules, seconds, lost_seconds=lost_seconds))
    batch.close()
    return replace(found, c0_ms=max(found.c0_ms, LEAST_MS), c1_ms_per_row=max(found.c1_ms_per_row, LEAST_MS / 100))


def timed(
    decode: Callable[[int, Widths], object],
    sizes: Collection[int],
    schedules: Collection[Widths],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    lost_seconds: Callable[[], float] = lambda: 0.0,
) -> tuple[list[tuple[int, int]], list[float]]:
    """What `fit` takes: (requests, rows a request) and milliseconds of batches that `decode` was timed with.

    Cheap cells come first and all are measured in turn, so that a drift of the machine falls on all alike. The smallest
    cell is always measured. `lost_seconds` of the last batch are no part of its time.
    """
    cells = sorted(((size, widths) for size in sizes for widths in schedules), key=lambda c: c[0] * beam_rows(c[1]))
    taken: dict[tuple[int, Widths], list[float]] = {}
    end = clock() + seconds
    decode(1, cells[0][1])
    while not taken or clock() < end:
        for size, widths in cells:
            if taken and clock() + min(taken.get((size, widths), [0.0])) > end:
                break
            started = clock()
            decode(size, widths)
            taken.setdefault((size, widths), []).append(max(clock() - started - lost_seconds(), LEAST_MS / 1000))
    shapes = [(size, beam_rows(widths)) for size, widths in taken]
    return shapes, [1000 * median(times) for times in taken.values()]


def probe_queries(engine: ModelEngine, count: int, ads: int = 10) -> list[Query]:
    """Queries with full-length histories drawn from the catalogue, each for so many ads."""
    rng = np.random.default_rng(0)
    now_ms = int(time.time() * 1000)
    items = engine.catalogue.item_ids
    length = engine.spec.short_length
    queries = []
    for _ in range(count):
        drawn = rng.integers(0, len(items), length).tolist()
        history = tuple(
            HistoryEvent(item_id=items[row], timestamp=now_ms - (length - place) * HOUR_MS, value=1.0)
            for place, row in enumerate(drawn)
        )
        queries.append(Query(None, history, engine.scenes[0], ads, now_ms, Blocked(), context=None))
    return queries
