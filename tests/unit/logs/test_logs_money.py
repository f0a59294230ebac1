"""Money of a log: a sketch is the same whatever parts it came in, and an account names rows in another unit."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.samples import write_sample_log, write_sample_prepared

from adbeam.logs.config import LogsConfig
from adbeam.logs.money import MoneySketch
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog


def test_a_sketch_of_parts_is_that_of_the_whole() -> None:
    values = np.random.default_rng(0).lognormal(3, 1.2, 5000)
    whole, parts = MoneySketch.of(values), MoneySketch()
    for part in np.array_split(values, 7):
        parts.add(MoneySketch.from_dict(json.loads(json.dumps(MoneySketch.of(part).as_dict()))))
    assert parts.rows == whole.rows and parts.largest == whole.largest == values.max()
    assert parts.median == pytest.approx(np.median(values), rel=0.01)
    assert parts.share_of_dearest(50) == pytest.approx(np.sort(values)[-50:].sum() / values.sum(), rel=0.01)
    assert parts.share_of_dearest(5000) == pytest.approx(1.0) and not parts.beyond_reason
    assert len(json.dumps(parts.as_dict())) < 60_000


def test_rows_in_micros_are_counted_and_do_not_move_the_median() -> None:
    values = np.append(np.random.default_rng(0).uniform(1, 90, 233), 59_900_000.0)
    sketch = MoneySketch.of(values)
    assert sketch.beyond_reason == 1 and sketch.summary()["largest"] == 59_900_000.0
    assert sketch.median == pytest.approx(np.median(values), rel=0.02)
    assert sketch.share_of_dearest(1) > 0.999


def test_nothing_zero_and_what_is_no_number_are_no_money() -> None:
    sketch = MoneySketch.of(np.array([0.0, np.nan, np.inf, -1.0]))
    assert (sketch.median, sketch.beyond_reason, sketch.share_of_dearest(3)) == (0.0, 0, 0.0)
    assert MoneySketch.of(np.array([1e-300, 1e12])).rows.total() == 2


def prepare(work_dir: Path, settings: dict[str, Any]) -> PreparedLog:
    return run(SimpleNamespace(work_dir=work_dir, logs=LogsConfig.parse(settings)), in_process=True)


def test_money_beyond_reason_is_named_with_its_row_and_clean_files_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = write_sample_log(tmp_path, users=10, items=20)
    clean = prepare(tmp_path / "clean", sample.settings)
    assert "warning" not in capsys.readouterr().out
    assert clean.account["money"]["price"]["beyond_reason"] == 0
    rows = pq.read_table(sample.events).to_pylist()
    first = next(row for row in rows if row["action"] == "conversion")
    first["price"] = 59_900_000.0
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(sample.events)), sample.events)
    found = prepare(tmp_path / "dirty", sample.settings).account["money"]["price"]
    printed = " ".join(capsys.readouterr().out.split())
    assert (found["beyond_reason"], found["largest"], found["event_id"]) == (1, 59_900_000.0, first["event_id"])
    assert found["rows"] == clean.account["actions"]["conversion"] and 0 < found["median"] < 100
    assert "money: price above 1,000 medians" in printed and "micros, cents or another currency" in printed
    assert first["event_id"] in printed


def test_an_account_counts_the_actions_of_the_training_split(tmp_path: Path) -> None:
    prepared = write_sample_prepared(tmp_path, users=12, items=30)
    assert sum(prepared.account["training"].values()) == prepared.account["splits"]["train"]
    assert 0 < prepared.account["training"]["conversion"] < prepared.account["actions"]["conversion"]
