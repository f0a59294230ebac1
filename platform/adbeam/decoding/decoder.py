"""The way in: checks a batch, puts requests of one schedule side by side, and shares them out among threads.

A request costs the same wherever it is computed, so threads take requests, not parts of a matrix product: the many
short operations between two products would lose more to waking a thread than the products gain.

Shapes: B requests, T levels, K eCPM buckets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from adbeam.decoding.config import OrderBy
from adbeam.decoding.engines.cuda_graphs import CudaGraphs
from adbeam.decoding.engines.lazyar import LazyAREngine, StepModel
from adbeam.decoding.engines.lazyar_graphs import RecordedEngine
from adbeam.decoding.engines.mtp import MtpEngine
from adbeam.decoding.engines.precision import Precision
from adbeam.decoding.heads import merge, shares
from adbeam.decoding.masks.filters import ItemFilter
from adbeam.decoding.results import DecodeResult
from adbeam.decoding.search import Schedule, Search, Wanted, rounded_up
from adbeam.decoding.trie.trie import Trie
from adbeam.errors import UserError
from adbeam.features.batch import ContextBatch
from adbeam.model.heads import SidDecoder
from adbeam.model.lazyar import LazyAR
from adbeam.model.mtp import MtpDecoder

logger = logging.getLogger(__name__)


class Decoder:
    """Searches the live catalogue with a model. One decode at a time; beams.Controller forms a replica's batches."""

    def __init__(
        self,
        model: SidDecoder | StepModel,
        trie: Trie,
        ecpm_means: Sequence[float] | Tensor | None = None,
        order_by: OrderBy = "expected_value",
        precision: Precision = "float32",
        compiled: bool = False,
        ecpm_step: bool = True,
        threads: int = 1,
        cuda_graphs: bool = False,
    ) -> None:
        """`ecpm_means` [K] are the mean eCPM of the buckets (default: the bucket's number).

        Without `ecpm_step` the last step, over the widest beams, is left out: answers come by log-probability, K is 0
        and their expected eCPM is not a number.
        `precision` and `compiled` are of LazyAREngine; another StepModel comes with its own.
        More than one of `threads` share the requests of a batch, each computing its own alone (CPU only); with one, the
        calling thread computes and PyTorch's own threads are in force.
        `cuda_graphs` records what LazyAR computes and replays it (engines/lazyar_graphs.py); on a GPU only.
        """
        engine: StepModel
        if isinstance(model, LazyAR):
            engine = _lazyar_engine(model, precision, compiled, cuda_graphs)
        else:
            engine = _engine(model)
            if cuda_graphs:
                logger.warning("decoding goes on without CUDA graphs: %s has none", type(engine).__name__)
        self.config = engine.config
        if not ecpm_step and order_by != "log_probability":
            raise UserError("needs the eCPM step", field="order_by", value=order_by,
                            remedy="order by log_probability, or leave the step in")  # fmt: skip
        if tuple(trie.codebooks) != tuple(self.config.codebooks):
            raise UserError("the trie and the model have different codebooks", field="codebooks", value=trie.codebooks,
                            remedy=f"the model has {tuple(self.config.codebooks)}")  # fmt: skip
        if threads < 1 or (threads > 1 and engine.device.type != "cpu"):
            raise UserError(f"a decoder on {engine.device.type} cannot have this many threads", field="threads",
                            value=threads, remedy="give 1")  # fmt: skip
        means = range(self.config.ecpm_buckets) if ecpm_means is None else ecpm_means
        means_K = torch.as_tensor(means if isinstance(means, Tensor) else list(means), dtype=torch.float32)
        if means_K.shape != (self.config.ecpm_buckets,):
            raise UserError("needs one mean for each eCPM bucket", field="ecpm_means", value=len(means_K),
                            remedy=f"the model has {self.config.ecpm_buckets} buckets")  # fmt: skip
        trie.check()
        engines = [engine, *(engine.beside() for _ in range(threads - 1))]
        means_K = means_K.to(engine.device)
        self._searches = [Search(each, trie, means_K, order_by, ecpm_step) for each in engines]
        # One core a thread: PyTorch's own threads beside them would only wait for each other.
        self._pool = ThreadPoolExecutor(threads, "decode", torch.set_num_threads, (1,)) if threads > 1 else None

    @property
    def trie(self) -> Trie:
        """The live catalogue."""
        return self._searches[0].constraint.trie

    def swap(self, trie: Trie) -> None:
        """Search another trie from the next decode on: one reference is replaced, nothing waits."""
        trie.check()
        self._searches = [search.over(trie) for search in self._searches]

    def decode(
        self,
        context: ContextBatch,
        schedules: Sequence[Schedule],
        filters: Sequence[ItemFilter | None] | None = None,
        count: int | Sequence[int | None] | None = None,
        kept: Sequence[int | None] | None = None,
    ) -> list[DecodeResult]:
        """The best ads of each request, at most `count` and at most the last width of its schedule.

        `schedules[b]` are the beams kept after each level; where fewer allowed ads lie below them than the answer is to
        hold, as many more are kept as it takes, so an answer is short only where no more ads exist. A schedule wider
        than what is reachable is no error: the answer is then exhaustive. A filter that leaves nothing gives an empty
        result. Raises UserError for an impossible schedule, a context that does not fit the model, logits that are not
        numbers, a broken catalogue. `kept` gives back other numbers of ads than the search
        aims at, None all that it found.
        """
        self._check(context, schedules, filters)
        B = context.size
        counts = [count] * B if count is None or isinstance(count, int) else list(count)
        wanted = [_wanted(tuple(widths), limit) for widths, limit in zip(schedules, counts, strict=True)]
        limits = list(counts if kept is None else kept)
        if len(weights := self.config.mixture) == 1:
            return self._search(context, wanted, filters or [None] * B, limits)
        by_head = [head for one in zip(*(shares(each, weights) for each in wanted), strict=True) for head in one]
        every = list(filters or [None] * B) * len(weights)
        found = self._search(context.for_heads(len(weights)), by_head, every, [None] * len(every))
        return [
            merge(found[b::B], weights, tuple(schedules[b]), self._searches[0].order_by, limits[b]) for b in range(B)
        ]

    def _search(
        self,
        context: ContextBatch,
        wanted: Sequence[Wanted],
        filters: Sequence[ItemFilter | None],
        limits: Sequence[int | None],
    ) -> list[DecodeResult]:
        """The answers, in the order of the contexts."""
        B = context.size
        # Requests that want the same stand side by side: they are one group of the search. The last is repeated up to a
        # size that the engine knows; zip drops the answers to the repetitions.
        turn = sorted(range(B), key=lambda b: wanted[b])
        turn += turn[-1:] * (rounded_up(B, self._searches[0].model.multiple) - B)
        searches = self._searches
        with searches[0].constraint.trie.searching():
            parts = _parts([sum(wanted[b][0]) for b in turn], len(searches))
            jobs = [
                partial(
                    search.run,
                    _rows(context, turn[part]),
                    [wanted[b] for b in turn[part]],
                    [filters[b] for b in turn[part]],
                    [limits[b] for b in turn[part]],
                )
                for search, part in zip(searches, parts, strict=False)
            ]
            answers = [result for results in self._run(jobs) for result in results]
        return [result for _, result in sorted(zip(turn[:B], answers, strict=False), key=lambda pair: pair[0])]

    def _run(self, jobs: Sequence[Callable[[], list[DecodeResult]]]) -> list[list[DecodeResult]]:
        if self._pool is None:
            return [job() for job in jobs]
        tasks = [self._pool.submit(job) for job in jobs]
        wait(tasks)  # also where one fails: none may be at work on the trie or its buffers afterwards
        return [task.result() for task in tasks]

    def _check(self, context: ContextBatch, schedules: Sequence[Schedule], filters: Sequence[Any] | None) -> None:
        B, T = context.size, len(self.config.codebooks)
        if len(schedules) != B or (filters is not None and len(filters) != B):
            raise ValueError(f"{B} contexts need as many schedules and filters")
        for widths in set(map(tuple, schedules)):
            if len(widths) != T:
                raise UserError("a schedule has one width for each level", field="schedule", value=widths,
                                remedy=f"give {T} widths")  # fmt: skip
            if min(widths) < 1:
                raise UserError("a beam width is at least 1", field="schedule", value=widths,
                                remedy="give positive widths")  # fmt: skip
        length = self.config.context_length
        if context.mask_BS.shape[1] != length:
            raise UserError("the context's length is not the model's", field="context", value=context.mask_BS.shape[1],
                            remedy=f"build it with the bundle's settings: {length} places")  # fmt: skip


def _engine(model: SidDecoder | StepModel) -> StepModel:
    """What the search asks of a model that is no LazyAR: its own `step_model()` where it brings one."""
    if isinstance(model, MtpDecoder):
        return MtpEngine(model)
    if isinstance(model, SidDecoder):
        own: StepModel = model.step_model()
        return own
    return model


def _lazyar_engine(model: LazyAR, precision: Precision, compiled: bool, cuda_graphs: bool) -> LazyAREngine:
    if not cuda_graphs:
        return LazyAREngine(model, precision, compiled)
    device = next(model.parameters()).device.type
    if device != "cuda":
        raise UserError("CUDA graphs need a GPU", field="cuda_graphs", value=device,
                        remedy="put the model on cuda, or leave them out")  # fmt: skip
    return RecordedEngine(model, CudaGraphs(), precision, compiled)


def _wanted(widths: Schedule, count: int | None) -> Wanted:
    """Fewer ads than the narrowest level has beams make no difference to the search."""
    return widths, widths[-1] if count is None else max(min(count, widths[-1]), min(widths))


def _rows(context: ContextBatch, chosen: list[int]) -> ContextBatch:
    """The contexts at these places."""
    if chosen == list(range(context.size)):
        return context
    return context.rows(torch.tensor(chosen, device=context.static_BF.device))


def _parts(costs: Sequence[int], most: int) -> list[slice]:
    """Neighbouring requests cut into at most `most` parts of nearly equal cost."""
    if most == 1 or not costs:
        return [slice(0, len(costs))]
    share, ends = sum(costs) / most, [0]
    for place, so_far in enumerate(accumulate(costs), start=1):
        if so_far - costs[place - 1] / 2 >= share * len(ends) and place - 1 > ends[-1]:
            ends.append(place - 1)
    return [slice(low, high) for low, high in zip(ends, [*ends[1:], len(costs)], strict=True)]
