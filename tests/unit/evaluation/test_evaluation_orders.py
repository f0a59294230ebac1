"""`adbeam evaluate` on a simulated log: lists by probability or by expected value, and what it writes down."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tests.support.market_samples import MARKET, market_config, publish_model

from adbeam import artifacts
from adbeam.evaluation.evaluate import evaluate
from adbeam.market.workdir import prepare_market, tokenize_market
from adbeam.market.world import SCENES, World
from adbeam.model import build_model


def test_lists_are_ordered_by_what_was_asked_and_the_table_says_so(tmp_path: Path) -> None:
    config = market_config(tmp_path)
    world = World(MARKET, seed=0)
    prepare_market(world, tmp_path)
    tokenize_market(world, tmp_path, config.model.codebooks)
    torch.manual_seed(0)
    means = [10.0**bucket for bucket in range(config.model.ecpm_buckets)]
    publish_model(tmp_path, config, build_model(config.model).state_dict(), means, tuple(SCENES))
    tables, target = {}, tmp_path / "evaluation" / "test"
    for order in ("log_probability", "expected_value"):
        asked = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"order_by": order})})
        tables[order] = evaluate(asked, "test")
        rows = pq.read_table(target / "requests.parquet").to_pylist()
        mine = [row["recall@10"] for row in rows if (row["question"], row["method"]) == ("all", "model")]
        assert tables[order]["all/model"]["recall@10"] == pytest.approx(sum(mine) / len(mine))
        assert artifacts.read_manifest(target)["order_by"] == order
    by_probability, by_value = tables.values()
    assert by_probability["all/model"] != by_value["all/model"], "these means are far apart"
    assert by_probability["all/popularity"] == by_value["all/popularity"]
