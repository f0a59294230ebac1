"""A log whose ads stand only in it (`catalogue: from_log`) gets semantic IDs, training rows and a model that learns."""

from __future__ import annotations

from pathlib import Path

from tests.support.market_samples import market_config
from tests.support.samples import write_sample_log

from adbeam.logs.pipeline import run
from adbeam.tokens.pipeline import tokenize
from adbeam.training.data.build_rows import build_rows
from adbeam.training.reference_loop import train_plain
from adbeam.training.trainer import build_job


def test_ads_that_stand_only_in_the_log_are_learnt(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=40, items=60)
    logs = sample.settings | {"files": {"events": str(sample.events), "catalogue": "from_log"}}
    gates = {"max_collision": None, "max_items_per_sid": None, "min_level_utilisation": None}
    config = market_config(
        tmp_path / "run",
        logs=logs,
        tokens={"gates": gates},
        training={"target_action": "auto", "max_steps": 12},
    )
    prepared = run(config, in_process=True)
    tokens = tokenize(config)
    assert set(tokens.table["item_id"].to_pylist()) == set(prepared.catalogue()["item_id"].to_pylist())
    assert tokens.report["catalogue"]["quarantined"] == 0
    assert tokens.report["quality"]["col"] < 0.5, "behaviour tells ads apart that have no words"
    store = build_rows(config, use_ray=False)
    assert store.files.rows > 40
    job, stream = build_job(config, store, tmp_path / "plain")
    _, told = train_plain(job, stream)
    assert told[-1]["loss"] < told[0]["loss"]
