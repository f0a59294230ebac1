"""Candidate lists: what is in them, what is stored with them, and that they are made once."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.support.list_samples import list_config

from adbeam.bundle import load_bundle
from adbeam.config import Config
from adbeam.decoding.exhaustive import score_all
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences, requests_in
from adbeam.records import LIST_SAMPLE_SCHEMA, ListSample
from adbeam.rewards import generate_lists
from adbeam.rewards.lists import Ask, ListMaker
from adbeam.rewards.scoring import RewardModel


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return list_config(tmp_path_factory.mktemp("lists"))


@pytest.fixture(scope="module")
def maker(config: Config) -> ListMaker:
    bundle = load_bundle(config.work_dir / "bundles")
    judge = RewardModel.open(config.work_dir / "reward", bundle.catalogue)
    return ListMaker(bundle, judge, config.lists, config.decoding.widths, seed=0)


@pytest.fixture(scope="module")
def asks(config: Config) -> list[Ask]:
    shard = PreparedLog.open(config.work_dir / "prepared").sequences()[0]
    sequence = next(read_sequences(shard))
    return [Ask.of(request) for request in requests_in(sequence, "train")[-3:]]


def test_a_list_holds_what_followed_the_beams_top_and_exploration(maker: ListMaker, asks: list[Ask]) -> None:
    rows = maker.samples(asks)
    assert len(rows) == len(asks)
    for row, ask in zip(rows, asks, strict=True):
        ListSample.model_validate({key: np.asarray(v).tolist() if hasattr(v, "shape") else v for key, v in row.items()})
        assert len(row["sids"]) == 8 == len(set(map(tuple, row["sids"])))
        assert row["item_ids"][: len(ask.exposed)] == list(ask.exposed)[:4]
        assert all(value > 0 for value in row["rewards"])


def test_log_probabilities_are_the_models_own(maker: ListMaker, asks: list[Ask]) -> None:
    row = maker.samples(asks[:1])[0]
    context = maker._contexts(asks[:1]).batch()
    expected, _ = score_all(maker.model, context, torch.tensor(row["sids"]))
    np.testing.assert_allclose(row["log_probabilities"], expected[0].numpy(), atol=1e-4)


def test_a_request_draws_the_same_list_in_any_company(maker: ListMaker, asks: list[Ask]) -> None:
    alone = maker.samples(asks[1:2])[0]
    assert alone["sids"] == maker.samples(asks)[1]["sids"]
    assert maker.samples([]) == []


def test_it_publishes_once_and_says_who_made_it(config: Config) -> None:
    folder = generate_lists(config)
    manifest = json.loads((folder / "manifest.json").read_text())
    table = pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet")))
    assert table.schema.equals(LIST_SAMPLE_SCHEMA)
    assert table.num_rows == manifest["lists"] > 20
    assert set(table["tokens_version"].to_pylist()) == {"sample"}
    assert len(set(table["sample_id"].to_pylist())) == table.num_rows
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert generate_lists(config) == folder and (folder / "manifest.json").stat().st_mtime_ns == before


def test_few_candidates_make_short_lists_and_one_makes_none(maker: ListMaker, asks: list[Ask]) -> None:
    beam = [tuple(maker.recommender.live_sids()[0].tolist())]
    chosen = maker._choose(Ask("r", asks[0].moment, asks[0].events), beam, np.zeros(1))
    assert 1 <= len(chosen) <= 8
