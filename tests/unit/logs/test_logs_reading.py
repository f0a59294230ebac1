"""Parquet, CSV and JSON Lines give the same rows; a broken file or a missing column is named before any work."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.errors import UserError
from adbeam.logs.config import TableConfig
from adbeam.logs.reading import list_fragments, read_chunks

REQUIRED, OPTIONAL = ("user_id", "item_id"), ("price", "scene", "action")
ROWS = [{"uid": f"u{number}", "item_id": number, "price": number / 2} for number in range(10)]
CSV = "uid,item_id,price\n" + "".join(f"{row['uid']},{row['item_id']},{row['price']}\n" for row in ROWS)


def _write(path: Path) -> TableConfig:
    text = CSV if ".csv" in path.name else "".join(json.dumps(row) + "\n" for row in ROWS)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=4)
    else:
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return TableConfig.parse({"path": str(path), "columns": {"user_id": "uid"}, "constants": {"scene": "feed"}})


def _read(config: TableConfig, batch_rows: int = 3):
    fragments = list_fragments(config, "logs.files.events", REQUIRED, OPTIONAL)
    return [chunk for fragment in fragments for chunk in read_chunks(fragment, config, batch_rows)]


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.csv.gz", "log.jsonl", "log.jsonl.gz"])
def test_every_format_gives_the_same_rows_in_small_batches(tmp_path, name):
    chunks = _read(_write(tmp_path / name))
    values = [(row["user_id"], row["item_id"], row["scene"]) for chunk in chunks for row in chunk.table.to_pylist()]
    as_text = [tuple(v.decode() if isinstance(v, bytes) else str(v) for v in row) for row in values]
    assert as_text == [(row["uid"], str(row["item_id"]), "feed") for row in ROWS]
    assert not any(chunk.malformed for chunk in chunks)
    if "csv" not in name:
        assert max(chunk.table.num_rows for chunk in chunks) <= 3


def test_lines_that_are_no_rows_are_handed_on(tmp_path):
    (tmp_path / "log.csv").write_text('uid,item_id,price\nu1,1,"a,b"\nu2,2\nu3,3,1\n')
    (chunk, tail) = _read(TableConfig.parse({"path": str(tmp_path / "log.csv"), "columns": {"user_id": "uid"}}))
    assert chunk.table["user_id"].to_pylist() == [b"u1", b"u3"]
    assert tail.malformed == (("row has 2 cells where 3 are due", "u2,2"),)
    lines = [
        '{"user_id": 1, "item_id": 2}',
        "{broken",
        "[1]",
        "",
        '{"user_id": "x", "item_id": 2, "price": {"deep": 1}}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    (chunk,) = _read(TableConfig.parse({"path": str(tmp_path / "log.jsonl")}), 100)
    assert chunk.malformed == (("line is not JSON", "{broken"), ("line is not a JSON object", "[1]"))
    assert chunk.table["user_id"].to_pylist() == ["1", "x"]


def test_constants_fill_nulls_and_absent_columns(tmp_path):
    pq.write_table(pa.table({"user_id": ["u", "v"], "item_id": [1, 2], "price": [None, 2.0]}), tmp_path / "l.parquet")
    config = TableConfig.parse({"path": str(tmp_path / "l.parquet"), "constants": {"price": 1.5, "action": "click"}})
    (chunk,) = _read(config)
    assert chunk.table["price"].to_pylist() == [1.5, 2.0]
    assert chunk.table["action"].to_pylist() == ["click", "click"]


def test_a_folder_a_glob_and_a_list_name_the_same_files(tmp_path):
    for number in range(3):
        pq.write_table(pa.table({"user_id": [number], "item_id": [number]}), tmp_path / f"{number}.parquet")
    names = [str(tmp_path / f"{number}.parquet") for number in range(3)]
    for path in (str(tmp_path), str(tmp_path / "*.parquet"), names):
        chunks = _read(TableConfig.parse({"path": path}))
        assert [chunk.table["user_id"][0].as_py() for chunk in chunks] == [0, 1, 2]


def test_a_missing_column_is_named_with_what_there_is(tmp_path):
    config = _write(tmp_path / "log.parquet")
    with pytest.raises(UserError, match=r"log\.parquet has no column 'item'.*uid, item_id, price"):
        _read(config.model_copy(update={"columns": {"user_id": "uid", "item_id": "item"}}))
    with pytest.raises(UserError, match="has no column 'user_id'"):
        _read(config.model_copy(update={"columns": {}}))
    with pytest.raises(UserError, match="has no column 'region'"):
        _read(config.model_copy(update={"features": {"region": "string"}}))
    with pytest.raises(UserError, match="unknown name"):
        _read(config.model_copy(update={"columns": {"user": "uid"}}))


@pytest.mark.parametrize("name", ["log.parquet", "log.csv.gz", "log.jsonl.gz"])
def test_a_truncated_file_is_named(tmp_path, name):
    config = _write(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"{name} cannot be read.*truncated"):
        _read(config)


def test_no_file_an_empty_file_and_an_unknown_ending(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        _read(TableConfig.parse({"path": str(tmp_path / "none.parquet")}))
    (tmp_path / "log.csv").touch()
    with pytest.raises(UserError, match="is empty"):
        _read(TableConfig.parse({"path": str(tmp_path / "log.csv")}))
    (tmp_path / "log.txt").write_text("x")
    with pytest.raises(UserError, match="set format"):
        _read(TableConfig.parse({"path": str(tmp_path / "log.txt")}))


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.jsonl"])
def test_values_of_a_column_are_translated_and_others_stay(tmp_path, name):
    rows = [{"user_id": "u", "item_id": 1, "action": action} for action in (1, 2, 7)]
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    elif name.endswith("csv"):
        (tmp_path / name).write_text("user_id,item_id,action\n" + "".join(f"u,1,{row['action']}\n" for row in rows))
    else:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {"action": {1: "click", "2": "conversion"}}
    config = TableConfig.parse({"path": str(tmp_path / name), "values": values})
    fragments = list_fragments(config, "logs.files.events", ("user_id", "item_id", "action"), ())
    (chunk,) = [chunk for fragment in fragments for chunk in read_chunks(fragment, config, 100)]
    actions = [value.decode() if isinstance(value, bytes) else value for value in chunk.table["action"].to_pylist()]
    assert actions == ["click", "conversion", "7"]


def test_a_translation_into_an_unknown_value_or_of_an_unknown_column_is_refused(tmp_path):
    with pytest.raises(UserError, match="'purchase' is none of impression, click, deep, conversion"):
        TableConfig.parse({"path": "x", "values": {"action": {"buy": "purchase"}}})
    (tmp_path / "log.csv").write_text(CSV)
    config = TableConfig.parse({"path": str(tmp_path / "log.csv"), "columns": {"user_id": "uid"}, "values": {"x": {}}})
    with pytest.raises(UserError, match="unknown name"):
        list_fragments(config, "logs.files.events", REQUIRED, OPTIONAL)


def test_a_line_with_half_a_character_is_malformed_and_whole_pairs_are_kept(tmp_path):
    lines = ['{"user_id": "u\\ud800", "item_id": "a"}', '{"user_id": "\\ud83d\\ude00", "item_id": "a"}']
    lines.append('{"user_id": "u", "item_id": "a", "x\\uDFFF": [1]}')
    (tmp_path / "log.jsonl").write_text("".join(line + "\n" for line in lines))
    (chunk,) = _read(TableConfig.parse({"path": str(tmp_path / "log.jsonl")}), batch_rows=10)
    assert chunk.table["user_id"].to_pylist() == ["\U0001f600"]
    assert chunk.malformed == tuple(("line holds half a character (a lone surrogate)", lines[n]) for n in (0, 2))
