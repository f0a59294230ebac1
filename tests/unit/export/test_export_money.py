"""What export says of the money it learnt from, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.samples import write_sample_log

from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.export.money_share import check_money
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog


def prepared_with(folder: Path, prices: dict[int, float]) -> PreparedLog:
    """The sample log with other prices of its first orders."""
    sample = write_sample_log(folder, users=12, items=20)
    rows = pq.read_table(sample.events).to_pylist()
    orders = [row for row in rows if row["action"] == "conversion"]
    for place, price in prices.items():
        orders[place]["price"] = orders[place]["ecpm"] = price
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(sample.events)), sample.events)
    return run(SimpleNamespace(work_dir=folder, logs=LogsConfig.parse(sample.settings)), in_process=True)


def test_a_clean_log_is_told_the_share_of_its_dearest_rows(tmp_path: Path) -> None:
    said = check_money(prepared_with(tmp_path, {}), "conversion", Config().export.max_dearest_share)
    assert said.startswith("the dearest 1 of ") and "training conversions with money hold 0.6% of it" in said


def test_rows_in_micros_are_refused_by_name_or_let_through_by_the_setting(tmp_path: Path) -> None:
    prepared = prepared_with(tmp_path, dict.fromkeys(range(3), 59_900_000.0))
    with pytest.raises(UserError, match=r"export\.max_dearest_share: the dearest 3 of .* micros, cents") as refusal:
        check_money(prepared, "conversion", 0.5)
    assert "100.0%" in str(refusal.value) and "59,900,000" in str(refusal.value)
    assert "dearest 3 of" in check_money(prepared, "conversion", 1.0)


def test_few_orders_of_like_size_are_not_refused_however_much_one_holds(tmp_path: Path) -> None:
    orders = prepared_with(tmp_path / "all", {}).account["actions"]["conversion"]
    prepared = prepared_with(tmp_path / "one", dict.fromkeys(range(1, orders), 0.0) | {0: 90.0})
    assert "hold 100.0% of it" in check_money(prepared, "conversion", 0.5)


def test_a_log_without_money_is_told_so(tmp_path: Path) -> None:
    prepared = prepared_with(tmp_path, {})
    assert check_money(prepared, "click", 0.5) == "the training clicks carry no money"
