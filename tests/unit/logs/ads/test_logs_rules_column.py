"""Targeting rules of a catalogue: kept in one form, quarantined with the reason, and nothing else where none are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.samples import write_sample_log

from adbeam.errors import UserError
from adbeam.logs.catalogue import read_catalogue
from adbeam.logs.config import LogsConfig, TableConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.targeting.features import FeatureConfig

FEATURES = {"country": FeatureConfig(kind="category"), "age": FeatureConfig(kind="number")}
ROWS: list[dict[str, Any]] = [
    {"item_id": "a", "targeting": '{"age": {"from": 18}, "country": {"in": ["de", "at"]}}'},
    {"item_id": "b", "targeting": None},
    {"item_id": "c", "targeting": "{}"},
    {"item_id": "d", "targeting": '{"nation": {"in": ["de"]}}'},
    {"item_id": "e", "targeting": '{"age": {"from": 34, "to": 18}}'},
    {"item_id": "f", "targeting": "everybody"},
    {"item_id": "g", "targeting": " "},
]
NO_FEATURES: tuple[Any, ...] = ({}, None)
KEPT = {"a": '{"age":{"from":18.0},"country":{"in":["at","de"]}}', "b": None, "c": None, "g": None}


def _read(path: Path, told: Any = FEATURES, **settings: Any) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    return read_catalogue(TableConfig(path=(str(path),), **settings), "logs.files.catalogue", 1000, told)


def _written(folder: Path, kind: str) -> Path:
    path = folder / f"ads.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif kind == "csv":
        cells = ['"' + (row["targeting"] or "").replace('"', '""') + '"' for row in ROWS]
        lines = [f"{row['item_id']},{cell}" for row, cell in zip(ROWS, cells, strict=True)]
        path.write_text("\n".join(["item_id,targeting", *lines]))
    else:
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_rules_are_kept_in_one_form_and_bad_ones_are_quarantined_with_the_reason(tmp_path: Path, kind: str) -> None:
    kept, quarantine, account = _read(_written(tmp_path, kind))
    assert dict(zip(kept["item_id"].to_pylist(), kept["targeting"].to_pylist(), strict=True)) == KEPT
    reasons = dict(zip([json.loads(row)["item_id"] for row in quarantine["row"].to_pylist()],
                       quarantine["reason"].to_pylist(), strict=True))  # fmt: skip
    assert "targeting.nation: is no declared feature" in reasons["d"]
    assert "targeting.age: the range is upside down" in reasons["e"]
    assert reasons["f"].startswith("targeting: is no JSON")
    assert account["rows_in"] == account["kept"] + account["quarantined"] == len(ROWS)


def test_objects_in_json_and_structs_in_parquet_are_rules_too(tmp_path: Path) -> None:
    rows = [
        {"item_id": "a", "targeting": {"country": {"in": ["de"]}}},
        {"item_id": "b", "targeting": {"age": {"from": 18}}},
        {"item_id": "c"},
    ]
    (tmp_path / "ads.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ads.parquet")
    for name in ("ads.jsonl", "ads.parquet"):
        kept, quarantine, _ = _read(tmp_path / name)
        assert kept["targeting"].to_pylist() == ['{"country":{"in":["de"]}}', '{"age":{"from":18.0}}', None], name
        assert not quarantine.num_rows


def test_every_row_may_be_bad_in_its_own_way(tmp_path: Path) -> None:
    rows = [{"item_id": f"i{n}", "targeting": f'{{"f{n}": {{"in": ["x"]}}}}'} for n in range(40_000)]
    pq.write_table(pa.Table.from_pylist([*rows, {"item_id": "good", "targeting": None}]), tmp_path / "ads.parquet")
    config = TableConfig(path=(str(tmp_path / "ads.parquet"),))
    kept, quarantine, _ = read_catalogue(config, "x", 1 << 20, FEATURES)
    assert kept["item_id"].to_pylist() == ["good"] and quarantine.num_rows == 40_000
    assert "targeting.f0" in quarantine["reason"][0].as_py()


def test_the_column_is_read_where_features_are_declared_or_it_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "ads.parquet"
    pq.write_table(pa.Table.from_pylist([{"item_id": "a", "whom": '{"scenes": ["home"]}'}]), path)
    assert "targeting" not in _read(path, {})[0].column_names
    for none in NO_FEATURES:
        mapped = _read(path, none, columns={"targeting": "whom"})[0]
        assert mapped["targeting"].to_pylist() == ['{"scenes":["home"]}']
    pq.write_table(pa.Table.from_pylist([{"item_id": "a", "targeting": "yes, please"}]), path)
    assert _read(path, {})[0].column_names == _read(path, None)[0].column_names
    with pytest.raises(UserError, match="is the column of targeting rules"):
        _read(path, FEATURES, features={"targeting": "string"})


def _run(folder: Path, logs: dict[str, Any], features: Any) -> PreparedLog:
    return run(SimpleNamespace(work_dir=folder, logs=LogsConfig.parse(logs), features=features), in_process=True)


def test_without_rules_every_prepared_file_is_the_same_with_features_declared(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=6, items=20)
    plain, declared = (_run(tmp_path / str(len(told)), sample.settings, told) for told in ({}, FEATURES))
    assert plain.fingerprint != declared.fingerprint, "rules may stand in the file that was not read for them"

    def hashes(prepared: PreparedLog) -> dict[str, str]:
        files = [path for path in prepared.folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
        return {str(p.relative_to(prepared.folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    assert hashes(plain) == hashes(declared)


def test_prepare_keeps_the_rules_of_the_catalogue(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=6, items=20)
    catalogue = pq.read_table(sample.catalogue)
    rules = pa.array(['{"country": {"in": ["de"]}}'] * 10 + [None] * 10, pa.string())
    pq.write_table(catalogue.append_column("targeting", rules), sample.catalogue)
    prepared = _run(tmp_path / "run", sample.settings, FEATURES)
    assert prepared.catalogue()["targeting"].null_count == 10
