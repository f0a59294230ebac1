"""What a decode costs on this machine, from timed decodes when a model is loaded; and whether it answers at all.

cost_ms = a + sum over requests (c0 + c1 * rows), fitted by least squares with coefficients >= 0. B requests.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from adbeam.beams.cost import BatchCost, beam_rows
from adbeam.beams.ladder import Ladder
from adbeam.errors import UserError
from adbeam.serving.query import Blocked, Query
from adbeam.serving.schemas import HistoryEvent

if TYPE_CHECKING:
    from adbeam.serving.engine import ModelEngine

LEAST_MS = 1e-4
HOUR_MS = 3_600_000


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


def calibrate(engine: ModelEngine, ladder: Ladder, max_batch: int, repeats: int) -> BatchCost:
    """Fit the cost of a batch to timed decodes of several batch sizes and rungs."""
    rungs = sorted({ladder.full, (ladder.full + ladder.floor) // 2, ladder.floor})
    sizes = sorted({1, max(1, max_batch // 4), max_batch})
    queries = probe_queries(engine, max_batch)
    shapes = [(size, ladder.rungs[rung].widths) for size in sizes for rung in rungs]
    times_ms = [
        median(_decode_ms(engine, queries[:size], widths) for _ in range(repeats + 1)) for size, widths in shapes
    ]
    return fit([(size, beam_rows(widths)) for size, widths in shapes], times_ms)


def fit(shapes: list[tuple[int, int]], times_ms: list[float]) -> BatchCost:
    """The cost model that explains times of batches of (requests, rows a request); relative errors count alike."""
    from scipy.optimize import nnls

    design = np.array([(1.0, size, size * rows) for size, rows in shapes])
    weight = 1.0 / np.maximum(np.array(times_ms), LEAST_MS)
    (a, c0, c1), _ = nnls(design * weight[:, None], np.ones(len(shapes)))
    return BatchCost(max(float(a), 0.0), max(float(c0), LEAST_MS), max(float(c1), LEAST_MS / 100))


def probe_queries(engine: ModelEngine, count: int) -> list[Query]:
    """Queries with full-length histories drawn from the catalogue."""
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
        queries.append(Query(None, history, engine.scenes[0], 10, now_ms, Blocked()))
    return queries


def _decode_ms(engine: ModelEngine, queries: list[Query], widths: tuple[int, ...]) -> float:
    started = time.perf_counter()
    engine.answer(queries, [widths] * len(queries))
    return (time.perf_counter() - started) * 1000
