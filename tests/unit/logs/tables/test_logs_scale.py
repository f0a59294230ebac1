"""Amounts in cents or micros are brought to the log's unit of money by a declared factor."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.samples import write_sample_log

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig, TableConfig
from adbeam.logs.pipeline import describe, run
from adbeam.logs.reading import list_fragments, read_chunks


def prices(path: Path, **settings: Any) -> list[Any]:
    config = TableConfig.parse({"path": str(path), **settings})
    fragments = list_fragments(config, "logs.files.events", ("item_id",), ("price", "bid", "ecpm"))
    return [
        price
        for part in fragments
        for chunk in read_chunks(part, config, 9)
        for price in chunk.table["price"].to_pylist()
    ]


@pytest.mark.parametrize(
    ("factor", "amounts", "expected"),
    [
        (0.01, [1234, 7, None, 29], [12.34, 0.07, None, 0.29]),
        (0.000001, [59_900_000], [59.9]),
        (1000, [0.0025], [2.5]),
        (1, [2.5], [2.5]),
    ],
)
def test_amounts_of_any_format_are_scaled(
    tmp_path: Path, factor: float, amounts: list[Any], expected: list[Any]
) -> None:
    pq.write_table(pa.table({"item_id": ["a"] * len(amounts), "cost": amounts}), tmp_path / "log.parquet")
    rows = [f"a,{'' if amount is None else amount}" for amount in amounts]
    (tmp_path / "log.csv").write_text("\n".join(["item_id,cost", *rows]) + "\n")
    lines = [json.dumps({"item_id": "a", "cost": amount}) for amount in amounts]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    for name in ("log.parquet", "log.csv", "log.jsonl"):
        assert prices(tmp_path / name, columns={"price": "cost"}, scale={"price": factor}) == expected


def test_what_is_no_number_is_left_for_validation_and_constants_are_not_scaled(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("item_id,price\na,100\na,free\na,inf\na,\na,250\n")
    read = prices(tmp_path / "log.csv", scale={"price": 0.01}, constants={"price": 9})
    assert read == [b"1", b"free", b"inf", b"9", b"2.5"]


def test_a_decimal_comma_goes_before(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("item_id;price\na;1250,5\n")
    assert prices(tmp_path / "log.csv", scale={"price": 0.01}) == [12.505]


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        ({"price": 0}, "greater than 0"),
        ({"price": float("inf")}, "finite"),
        ({"cost": 2}, "'price', 'bid' or 'ecpm'"),
    ],
)
def test_factors_that_cannot_be_meant_are_refused(scale: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        TableConfig.parse({"path": "log.csv", "scale": scale})


def test_a_scale_of_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("item_id,cost\na,100\n")
    with pytest.raises(UserError, match=r"events\.scale\.price: .*no column 'price'"):
        prices(tmp_path / "log.csv", scale={"price": 0.01})


def test_a_log_in_cents_is_prepared_as_one_in_units(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=6, items=20)
    plain = LogsConfig.parse(sample.settings)
    want = run(SimpleNamespace(work_dir=tmp_path / "units", logs=plain), in_process=True)
    events = pq.read_table(sample.events)
    cents = pa.array([None if price is None else round(price * 100) for price in events["price"].to_pylist()])
    place = events.schema.get_field_index("price")
    pq.write_table(events.set_column(place, "price", cents), tmp_path / "cents.parquet")
    files = sample.settings["files"] | {"events": {"path": str(tmp_path / "cents.parquet"), "scale": {"price": 0.01}}}
    logs = LogsConfig.parse(sample.settings | {"files": files})
    got = run(SimpleNamespace(work_dir=tmp_path / "cents", logs=logs), in_process=True)
    for ours, theirs in zip(got.events(), want.events(), strict=True):
        assert pq.read_table(ours).equals(pq.read_table(theirs))
    assert "scale" not in plain.model_dump_json()
    assert describe(logs, [])["fingerprint"] != describe(plain, [])["fingerprint"]
