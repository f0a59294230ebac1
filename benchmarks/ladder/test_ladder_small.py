"""The ladder on a small simulated market: rows that build on each other are trained once, judged and read back."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from tests.support.market_samples import MARKET

from adbeam.market.cascade import train_two_tower
from benchmarks.ladder import market
from benchmarks.ladder.ceilings import ceilings, summed_up
from benchmarks.ladder.market import Bench
from benchmarks.ladder.online import play_online
from benchmarks.ladder.rows import BASE, ORDERS, named
from benchmarks.ladder.run import judged, rspo_gains
from benchmarks.ladder_tune.run import weighed

SMALL = MARKET.model_copy(update={"users": 80, "ads": 100, "days": 10})
ROWS = tuple(named(name) for name in ("gr_base", "vsl_dpo", "vsl_rspo", "uvr_dbs", "uvr_dbs_mtp", "uvr_dbs_lazyar"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one test prepares and trains, the other finds; each stands alone too."""
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("ladder")


@pytest.fixture(autouse=True)
def little_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of the cascade and of the reward model: what they are worth is not asked here."""
    monkeypatch.setattr(market, "train_two_tower", partial(train_two_tower, steps=50))
    monkeypatch.setitem(BASE, "rewards.epochs", 1)


def test_rows_are_trained_once_judged_and_read_back(root: Path) -> None:
    bench = Bench(root, seed=0, steps=3, more_steps=2, requests=20, market=SMALL)
    found = judged(bench, ROWS)
    assert found["best"]["revenue"] > found["random"]["revenue"] > 0 < found["cascade"]["revenue"]
    assert set(found["vsl_rspo"]["by_order"]) == set(ORDERS) and set(found["gr_base"]["by_order"]) == {
        "log_probability"
    }
    models = {path.stem: path.stat().st_mtime_ns for path in (root / "weights").glob("*.safetensors")}
    names = ["gr_base", "gr_start", "lazyar_start", "mtp_start", "uvr", "uvr_dbs_lazyar", "uvr_dbs_mtp", "vsl_dpo",
             "vsl_rspo", "vsl_start"]  # fmt: skip
    assert sorted(stem.rsplit("-", 1)[0] for stem in models) == names
    assert judged(bench, ROWS) == found
    assert {path.stem: path.stat().st_mtime_ns for path in (root / "weights").glob("*.safetensors")} == models
    assert set(rspo_gains([found], [row.name for row in ROWS])) >= {"rspo_over_vsl_dpo", "rspo_over_vsl_dpo_lo"}
    heavier = weighed("vsl_rspo", 3.0)
    again = judged(bench, [*ROWS, heavier])
    assert again[heavier.name]["weights"] != found["vsl_rspo"]["weights"]
    assert {name: again[name] for name in found} == found


def test_ceilings_bound_what_their_recall_can_earn(root: Path) -> None:
    found = ceilings(Bench(root, seed=0, steps=3, more_steps=2, requests=20, market=SMALL))
    revenue = found["revenue"]
    assert revenue["best"] == max(revenue.values()) and min(revenue.values()) > 0
    assert revenue["cascade_truth"] >= revenue["cascade"] and revenue["generated_truth"] >= revenue["generated_reward"]
    assert all(0 < share <= 1 for share in found["recall"].values())
    for name in ("ads", "exposures", "probability", "clicks"):
        assert sum(tenth[name] for tenth in found["exposure"]) == pytest.approx(1)
    assert found["exposure"][0]["ads"] > 0.1, "the least shown are many"
    assert summed_up([found])["ceiling_best"] > 0


def test_online_rounds_are_compared_with_a_model_that_stands_still(root: Path) -> None:
    found = play_online(root, rounds=2, requests=300, steps=3, more_steps=2, market=SMALL)
    assert found["online_rounds"] == 2 == len(found["rounds_table"])
    first = found["rounds_table"][0]
    assert first["revenue"] == first["frozen"] > 0, "both begin as one model"
    assert first["verdict"] in ("published", "refused", "stopped")
    assert (found["online_lost"], found["online_duplicated"], found["online_published_below_gate"]) == (0, 0, 0)
    assert found["online_outcomes"] > 10
    assert play_online(root, rounds=2, requests=300, steps=3, more_steps=2, market=SMALL) == found
