"""Recorded decoding, with a tape of tensor operations in the place of CUDA graphs: like a graph it runs no Python."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.support.decoding_samples import CONFIG, assert_same_answer, catalogue, context_of, model_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from adbeam.decoding import Decoder, ItemFilter, Trie
from adbeam.decoding.engines.cuda_graphs import Recordings
from adbeam.decoding.engines.lazyar_graphs import RecordedEngine
from adbeam.decoding.search import rounded_up
from adbeam.errors import UserError
from adbeam.serving.config import EngineConfig


class Tape(TorchDispatchMode):
    """Notes every operation; `play` repeats them on the same tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        self.notes.append((func, args, kwargs or {}, answer))
        return answer

    def play(self, answer: Tensor) -> Tensor:
        """The tensor that now stands where `answer` stood."""
        made: dict[int, Any] = {}

        def now(x: Any) -> Any:
            return made.get(id(x), x) if isinstance(x, Tensor) else x

        for func, args, kwargs, old in self.notes:
            new = func(*tree_map(now, args), **tree_map(now, kwargs))
            for before, after in zip(tree_leaves(old), tree_leaves(new), strict=True):
                made[id(before)] = after
        return now(answer)


def tape(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A Record for the CPU."""
    with Tape() as notes:
        answer = function()
    return lambda: notes.play(answer)


def decoders(record: Any = tape, **changes: Any) -> tuple[Decoder, Decoder, RecordedEngine]:
    """Plain and recorded over the same catalogue."""
    config = CONFIG.model_copy(update=changes)
    model, sids_NT = model_of(config), catalogue(config=config)
    engine = RecordedEngine(model, record)
    plain, recorded = (Decoder(m, Trie.build(sids_NT, config.codebooks)) for m in (model, engine))
    return plain, recorded, engine


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lazy_layers": 0},
        {"lazy_layers": 3},
        {"recency_bias": True},
        {"path_codes": True},
        {"separate_values": True},
        {"history_layers": 2},
    ],
)
def test_replays_give_the_answers_of_the_engine(changes: dict[str, Any]) -> None:
    plain, recorded, engine = decoders(**changes)
    for seed in range(12):
        size = (3, 3, 3, 1, 17)[seed % 5]
        context, widths = context_of(plain.config, size, seed), [[(4, 8, 16), (32, 64, 100)][seed % 2]] * size
        for one, other in zip(plain.decode(context, widths), recorded.decode(context, widths), strict=True):
            assert_same_answer(one, other)
    assert len(engine.recordings) >= 4


def test_mixed_schedules_and_filters_are_answered_too() -> None:
    plain, recorded, engine = decoders()
    widths, few = [(4, 8, 16), (16, 64, 128), (4, 8, 16)], torch.zeros(2000, dtype=torch.bool)
    few[:100] = True
    filters = [None, ItemFilter(allow=few.numpy()), ItemFilter(deny=list(range(500)))]
    for seed in range(4):
        context = context_of(CONFIG, 3, seed)
        asked = (context, widths, filters, 10)
        for one, other in zip(plain.decode(*asked), recorded.decode(*asked), strict=True):
            assert_same_answer(one, other)
    assert len(engine.recordings) == 1  # the trunk


def test_memory_that_moves_ends_its_recordings() -> None:
    plain, recorded, engine = decoders()
    small, large = context_of(CONFIG, 1, 1), context_of(CONFIG, 16, 2)
    for _ in range(3):
        recorded.decode(small, [(4, 8, 16)])
    assert len(engine.recordings) == 5
    recorded.decode(large, [(32, 64, 128)] * 16)
    assert len(engine.recordings) == 0
    for seed in range(3, 6):
        context = context_of(CONFIG, 1, seed)
        assert_same_answer(plain.decode(context, [(4, 8, 16)])[0], recorded.decode(context, [(4, 8, 16)])[0])
    assert len(engine.recordings) >= 5


def failing(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A Record that cannot."""
    function()
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


def wrong(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A Record whose replay gives something else."""
    answer = function()
    return lambda: answer + 1


@pytest.mark.parametrize(("record", "reason"), [(failing, "not permitted"), (wrong, "differs from what it recorded")])
def test_a_recording_that_fails_or_differs_is_said_once_and_done_without(
    record: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain, recorded, engine = decoders(record)
    with caplog.at_level(logging.WARNING):
        for seed in range(3):
            context = context_of(CONFIG, 2, seed)
            widths = [(4, 8, 16)] * 2
            for one, other in zip(plain.decode(context, widths), recorded.decode(context, widths), strict=True):
                assert_same_answer(one, other)
    assert len(engine.recordings) == 0
    assert [reason in record.getMessage() for record in caplog.records] == [True]


def test_recordings_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    recordings = Recordings(tape, lambda: None, most=2)
    x = torch.zeros(1)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            for key in range(4):
                assert recordings.run(key, lambda: x + 1, []).item() == 1
    assert len(recordings) == 2
    assert len(caplog.records) == 1


def test_sizes_are_rounded_up_so_that_they_repeat() -> None:
    assert [rounded_up(n, 16) for n in (0, 1, 2, 3, 5, 9, 16, 17, 33)] == [1, 1, 2, 4, 8, 16, 16, 32, 48]
    assert [rounded_up(n, 1) for n in (0, 1, 7)] == [1, 1, 7]


def test_graphs_without_a_gpu_are_refused() -> None:
    with pytest.raises(UserError, match="CUDA graphs need a GPU"):
        Decoder(model_of(), Trie.build(catalogue(), CONFIG.codebooks), cuda_graphs=True)
    with pytest.raises(UserError, match="cuda_graphs needs device cuda"):
        EngineConfig.parse({"cuda_graphs": True})
    assert EngineConfig.parse({"cuda_graphs": True, "device": "cuda:1"}).cuda_graphs
