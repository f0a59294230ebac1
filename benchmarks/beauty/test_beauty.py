"""The Beauty benchmark on a made-up log: what is trained on and judged, resume, ties, and that both models learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from adbeam.errors import UserError
from benchmarks.beauty import lazyar as beauty_lazyar
from benchmarks.beauty import run as beauty
from benchmarks.beauty import sasrec as beauty_sasrec
from benchmarks.beauty.data import Beauty, table_row
from benchmarks.beauty.fit import Recipe
from benchmarks.beauty.lazyar import ItemRanking, LazyARRow
from benchmarks.beauty.sasrec import SASRecRow, right_aligned

ITEMS, CODEBOOKS = 48, (8, 8, 4)


@pytest.fixture
def data() -> Beauty:
    """Users who walk through the items in order, from anywhere: the next item is known from the last."""
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(0, ITEMS, 240), rng.integers(5, 12, 240)
    sequences = [(start + np.arange(length)) % ITEMS for start, length in zip(starts, lengths, strict=True)]
    item_N = np.arange(ITEMS)
    sids_NT = np.stack([item_N // 6, item_N % 6, np.zeros(ITEMS, int)], axis=1).astype(np.int32)
    return Beauty(sequences, sids_NT, CODEBOOKS, {}, "made up")


def test_the_last_items_are_held_out(data: Beauty) -> None:
    last = data.sequences[0]
    for split, held_out in (("validation", 2), ("test", 1)):
        histories, target_U = data.judged(split)  # type: ignore[arg-type]
        assert np.array_equal(histories[0], last[:-held_out]) and target_U[0] == last[-held_out]
    assert np.array_equal(data.training(51)[0], last[:-2])
    assert data.popularity_N.sum() == sum(len(items) - 2 for items in data.sequences)


def test_metrics_are_those_of_one_target() -> None:
    row = table_row([[3, 1, 2], [5, 4, 9]], np.array([2, 7]))
    assert row["recall@5"] == row["recall@10"] == 0.5
    assert row["ndcg@10"] == pytest.approx(0.5 / np.log2(4))


def test_items_of_one_sid_come_by_popularity_and_may_be_left_out(data: Beauty) -> None:
    shared = Beauty(data.sequences, np.zeros_like(data.sids_NT), CODEBOOKS, {}, "one sid")
    ranking = ItemRanking(shared)
    first = ranking.expand([[0, 0, 0]], None)
    assert shared.popularity_N[first].tolist() == sorted(shared.popularity_N, reverse=True)[:10]
    assert ranking.expand([[0, 0, 0]], {first[0]})[0] == first[1]


def test_histories_are_aligned_to_the_right() -> None:
    assert right_aligned([np.array([4]), np.array([0, 1, 2])], 2).tolist() == [[0, 5], [2, 3]]


def test_sasrec_learns_and_a_cut_training_ends_alike(data: Beauty, tmp_path: Path) -> None:
    recipe = Recipe(
        epochs=6, patience=99, learning_rate=0.01, weight_decay=0.0, warmup_steps=5, average=0.9, validate_from=1
    )
    whole = SASRecRow(data, 0, tmp_path / "whole", recipe)
    assert whole.run(stop_at=float("inf"))
    while not SASRecRow(data, 0, tmp_path / "cut", recipe).run(stop_at=0.0):
        pass
    cut = SASRecRow(data, 0, tmp_path / "cut", recipe)
    for name, weight in whole.fit.best_model().state_dict().items():
        torch.testing.assert_close(weight, cut.fit.best_model().state_dict()[name])
    assert whole.table("test")["recall@10"] == cut.table("test")["recall@10"] > 0.6
    assert SASRecRow(data, 1, tmp_path / "cut", recipe).fit.progress.epoch == 0, "another seed went on with this one"


def test_lazyar_learns_and_leaves_out_what_was_bought(
    data: Beauty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"width": 32, "item_buckets": 256, "prefix_buckets": 256, "dropout": 0.0, "short_length": 12}
    monkeypatch.setitem(beauty_lazyar.VARIANTS, "small", small)
    monkeypatch.setattr(beauty_lazyar, "HISTORY", 12)
    recipe = Recipe(
        epochs=6, patience=99, learning_rate=0.01, weight_decay=0.0, warmup_steps=5, average=0.9, validate_from=5
    )
    row = LazyARRow(data, "small", 0, tmp_path / "lazyar", recipe)
    assert row.run(stop_at=float("inf"))
    assert row.table("test")["recall@10"] > 0.6
    assert row.flops_per_target() > 0 and row.order.padding_share(0) < 0.3
    new_only = row.table("test", new_only=True)["recall@10"]
    assert new_only >= row.table("test")["recall@10"] - 0.05, "targets were left out with what was bought"


def test_rows_of_an_earlier_result_count_when_their_recipe_is_the_same(data: Beauty, tmp_path: Path) -> None:
    key = SASRecRow(data, 0, tmp_path / "any", beauty_sasrec.RECIPE).fit.key
    row = {"key": key, "validation": {}, "test": {}, "test_new_only": {}}
    found = {}
    for name, earlier in {"same": row, "other recipe": row | {"key": "0"}, "unfinished": {"key": key}}.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"hardware": "another machine", "rows": {"sasrec-0": earlier}}), encoding="utf-8")
        found[name] = beauty._finished("sasrec-0", data, tmp_path / "keep", beauty._earlier([path]))
    assert found == {"same": row | {"hardware": "another machine"}, "other recipe": None, "unfinished": None}
    for text in ("{", "[]", '{"rows": {}, "hardware"', '{"hardware": "x", "rows": {"sasrec-0": 1}}'):
        (tmp_path / "wrong.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="--also"):
            beauty._earlier([tmp_path / "wrong.json"])
    with pytest.raises(UserError, match="--also"):
        beauty._earlier([tmp_path / "missing.json"])
