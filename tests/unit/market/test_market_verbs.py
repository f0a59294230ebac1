"""`adbeam market`: a simulated work_dir that later steps take, and what a bundle earns on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from tests.support.bundles import write_random_bundle
from tests.support.market_samples import MARKET, MODEL, WIDTHS, publish_model
from typer.testing import CliRunner

from adbeam.cli.root import app
from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.logs.prepared import PreparedLog
from adbeam.market.simulate import open_market
from adbeam.model import build_model

SMALL = [f"{name}={value}" for name, value in MARKET.model_dump(exclude_defaults=True).items()]


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `adbeam market simulate` writes, and a bundle of a model that has learnt nothing."""
    folder = tmp_path_factory.mktemp("market") / "work"
    settings = [word for pair in [*SMALL, "ads=300"] for word in ("--set", pair)]
    result = CliRunner().invoke(app, ["market", "simulate", "--work-dir", str(folder), "--json", *settings])
    assert result.exit_code == 0, result.output
    account = json.loads(result.stdout)
    assert account["simulated"] and account["ads"] == 300 and account["events"]["conversion"] > 0
    assert all(Path(place).exists() for place in account["wrote"].values())
    shape = {f"model.{name}": value for name, value in MODEL.items() if name != "codebooks"}  # those of the SIDs
    config = Config.load(folder / "jobs.yaml", {**shape, "decoding.widths": WIDTHS})
    torch.manual_seed(0)
    means = [float(bucket) for bucket in range(config.model.ecpm_buckets)]
    publish_model(folder, config, build_model(config.model).state_dict(), means, ("feed", "story"))
    return folder


def test_the_market_is_made_again_from_what_was_written(work_dir: Path) -> None:
    world = open_market(work_dir)
    assert world.config == MARKET.model_copy(update={"ads": 300}) and world.seed == 0
    assert PreparedLog.open(work_dir / "prepared").catalogue().num_rows == 300
    assert yaml.safe_load((work_dir / "jobs.yaml").read_text())["work_dir"] == str(work_dir)


def test_policies_are_paid_between_chance_and_truth(work_dir: Path) -> None:
    words = ["market", "play", "--work-dir", str(work_dir), "--requests", "64", "--days", "2"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    played = json.loads(result.stdout)
    earned = played["revenue_per_1000_requests"]
    assert played["simulated"] and played["requests"] == 128
    assert next(iter(earned)) == "best" and earned["best"] > earned["logging policy"] > earned["random"] > 0
    assert 0 < earned["bundle"] < earned["best"] and 0 < earned["popularity"] < earned["best"]
    table = CliRunner().invoke(app, words).stdout
    assert "simulated revenue" in table and f"{'best':16} {earned['best']:34.2f} {1:12.1%}" in table


def test_what_does_not_fit_is_refused_by_name(work_dir: Path, tmp_path: Path) -> None:
    write_random_bundle(tmp_path / "other")
    (tmp_path / "real" / "prepared").mkdir(parents=True)
    place = ["--work-dir", str(work_dir)]
    for words, message in (
        (["play", *place, "--bundle", str(tmp_path / "other")], "not of this market"),
        (["play", *place, "--cascade"], "adbeam reward -c"),
        (["play", *place, "--order-by", "luck"], "--order-by: order_by"),
        (["play", "--work-dir", str(tmp_path)], "no simulated market"),
        (["simulate", "--work-dir", str(tmp_path / "real")], "log of another source"),
        (["simulate", "--work-dir", str(tmp_path / "new"), "--set", "user=3"], "did you mean 'users'"),
        (["simulate", "--work-dir", str(tmp_path / "new"), "--size", "huge"], "--size: size: Input should be 'tiny'"),
    ):
        result = CliRunner().invoke(app, ["market", *words])
        assert isinstance(result.exception, UserError) and message in str(result.exception), (words, result.output)
