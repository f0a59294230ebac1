"""The Beauty benchmark on a made-up log: what is trained on and judged, resume, ties, and that both models learn."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from adbeam.decoding import Decoder, Trie, score_all
from adbeam.errors import UserError
from adbeam.features.spec import FeatureSpec
from adbeam.model.lazyar import LazyAR
from adbeam.training.data.prefixes import history_context
from benchmarks.beauty import counts
from benchmarks.beauty import data as beauty_data
from benchmarks.beauty import lazyar as beauty_lazyar
from benchmarks.beauty import run as beauty
from benchmarks.beauty import sasrec as beauty_sasrec
from benchmarks.beauty.data import Beauty, table_row
from benchmarks.beauty.fit import Recipe
from benchmarks.beauty.lazyar import ItemRanking, LazyARRow
from benchmarks.beauty.legal import LegalEngine, LiveChildren, path_nll
from benchmarks.beauty.look import Lists, fused
from benchmarks.beauty.parts import count_rows, look_tables
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Texts of the made-up items."""
    lines = [f"{item + 1},word{item // 6},brand{item % 6}|shelf{item // 6}" for item in range(ITEMS)]
    text = "\n".join(["item_id,title_words,brand_categories", *lines])
    (tmp_path / "data").mkdir()
    with gzip.open(tmp_path / "data" / "items.csv.gz", "wt") as file:
        file.write(text)
    return tmp_path / "data"


def test_the_proxy_forgets_the_last_item(data: Beauty, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [" ".join(map(str, [user, *(items + 1).tolist()])) for user, items in enumerate(data.sequences)]
    with gzip.open(folder / "sequences.txt.gz", "wt") as file:
        file.write("\n".join(lines))
    monkeypatch.setattr(beauty_data, "_tokenize", lambda folder, model_dir, sequences: data.sids_NT)
    monkeypatch.setattr(beauty_data, "CODEBOOKS", CODEBOOKS)
    whole, proxy = (beauty_data.read(folder, None, folder / f"{proxy}", proxy=proxy) for proxy in (False, True))
    assert np.array_equal(whole.sequences[0], data.sequences[0])
    assert [items.tolist() for items in proxy.sequences] == [items[:-1].tolist() for items in data.sequences]
    assert np.array_equal(proxy.judged("test")[1], whole.judged("validation")[1])


def test_counts_know_the_walk_and_their_rows_are_kept(data: Beauty, folder: Path, tmp_path: Path) -> None:
    rows = count_rows(data, folder, tmp_path / "keep", ("validation", "test"))
    assert set(rows) == set(counts.COUNTS)
    for name in ("neighbours", "neighbours_without_text", "sequential_rules"):
        assert rows[name]["test_new_only"]["recall@10"] > 0.9 and rows[name]["test"]["ndcg@10"] > 0.5
    again = count_rows(data, folder, tmp_path / "keep", ("validation", "test"))
    assert again == rows, "counted anew"
    histories, _ = data.judged("test")
    scorer = counts.scorer_of("neighbours", data, counts.catalogue_of(folder))
    items, scores = counts.ranked(scorer, data, histories, 20, new_only=True)
    for history, best, score in zip(histories, items, scores, strict=True):
        assert not set(best) & set(history.tolist()) and score == sorted(score, reverse=True)


def small_row(data: Beauty, folder: Path, monkeypatch: pytest.MonkeyPatch) -> LazyARRow:
    small = {"width": 16, "item_buckets": 64, "prefix_buckets": 64, "dropout": 0.0, "short_length": 12}
    monkeypatch.setitem(beauty_lazyar.VARIANTS, "small", small)
    monkeypatch.setattr(beauty_lazyar, "HISTORY", 12)
    recipe = Recipe(
        epochs=2, patience=9, learning_rate=0.01, weight_decay=0.0, warmup_steps=5, average=0.9, validate_from=1
    )
    return LazyARRow(data, "small", 0, folder, recipe)


def test_live_children_normalise_what_exists(data: Beauty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sids_NT = data.sids_NT[::5]
    live = LiveChildren(sids_NT, CODEBOOKS)
    model = small_row(data, tmp_path, monkeypatch).model.eval()
    assert isinstance(model, LazyAR)
    context = history_context([data.sids_NT[:4], data.sids_NT[9:11]], FeatureSpec.of(model.config))
    sid_BT = torch.from_numpy(sids_NT[[2, 5]].astype(np.int64))
    full_BT, legal_BT = path_nll(model, context, sid_BT, live)
    exact_Bn, _ = score_all(model, context, sid_BT)
    torch.testing.assert_close(-full_BT.sum(1), exact_Bn.diagonal(), rtol=1e-4, atol=1e-4)
    assert (legal_BT <= full_BT + 1e-6).all() and (legal_BT < full_BT - 1e-3).any()
    decoder = Decoder(
        LegalEngine(model, live), Trie.build(sids_NT, CODEBOOKS), order_by="log_probability", ecpm_step=False
    )
    for place, result in enumerate(decoder.decode(context, [(64, 64, 64)] * 2, [None] * 2)):
        assert float(result.log_probability_n.exp().sum()) == pytest.approx(1.0, abs=1e-4), "all that lives"
        found = dict(zip(map(tuple, result.sids_nT.tolist()), result.log_probability_n.tolist(), strict=True))
        assert found[tuple(sid_BT[place].tolist())] == pytest.approx(-float(legal_BT[place].sum()), abs=1e-3)


def test_a_fusion_knows_what_either_list_does() -> None:
    ours, theirs = Lists([[3, 1]], [[-1.0, -2.0]]), Lists([[7, 1]], [[1.0, 0.5]])
    assert fused(ours, theirs, 0.0).items == [[3, 1, 7]]
    assert fused(ours, theirs, 1.0).items == [[1, 7, 3]]
    assert fused(ours, theirs, 1.0).scores[0] == pytest.approx([-2 + np.log(0.5), -3.0, -1 + np.log(1e-3)])


def test_a_look_tells_of_every_split_and_stratum(
    data: Beauty, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = small_row(data, tmp_path / "lazy", monkeypatch)
    rival = SASRecRow(data, 0, tmp_path / "rival")
    with pytest.raises(UserError, match="no finished training"):
        look_tables(data, lazy, rival, folder, ("validation",))
    assert lazy.run(stop_at=float("inf"))
    monkeypatch.setattr("benchmarks.beauty.look.HISTORY", 12)
    tables = look_tables(data, lazy, rival, folder, ("validation", "test"))
    for split in ("validation", "test"):
        table = tables[split]
        assert table["nll"]["all"]["users"] == 240 and len(table["nll"]["all"]["full"]) == 3
        assert sum(row["users"] for name, row in table["nll"].items() if name != "all") == 240
        assert table["recall"]["union@10"] >= max(table["recall"]["lazyar@10"], table["recall"]["neighbours@10"])
        by_name = {row["stratum"]: row for row in table["strata"]}
        assert sum(by_name[name]["users"] for name in by_name if name.startswith("pair")) == 240
        assert "sasrec" not in by_name["pair met"], "an untrained rival has no row"
    assert tables["test"]["recall"]["lazyar_fusion_weight"] == tables["validation"]["recall"]["lazyar_fusion_weight"]
