"""Text as the field writes it: marks, delimiters, encodings, doubled and late columns, nested fields, packed files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.errors import UserError
from adbeam.logs.config import TableConfig
from adbeam.logs.reading import Listing, list_table, read_chunks
from adbeam.settings import parse_yaml

REQUIRED, OPTIONAL = ("user_id", "item_id"), ("price", "scene")
ROWS = [("u1", "a", "12.50"), ("u2", "b", "3.25")]


def _listed(path: Path, **settings: object) -> tuple[Listing, TableConfig]:
    config = TableConfig.parse({"path": str(path), "columns": {"user_id": "uid"}, **settings})
    return list_table(config, "logs.files.events", REQUIRED, OPTIONAL), config


def _read(path: Path, **settings: object) -> tuple[list[tuple[str, ...]], list[tuple[str, str]]]:
    listing, config = _listed(path, **settings)
    chunks = [chunk for part in listing.fragments for chunk in read_chunks(part, config, 2)]
    rows = [row for chunk in chunks for row in chunk.table.to_pylist()]
    wanted = ("user_id", "item_id", "price")
    texts = [tuple(_text(row.get(name)) for name in wanted if name in row) for row in rows]
    return texts, [problem for chunk in chunks for problem in chunk.malformed]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _csv(sign: str = ",", comma: bool = False) -> str:
    rows = [("uid", "item_id", "price"), *ROWS]
    return "".join(sign.join(cell.replace(".", ",") if comma else cell for cell in row) + "\n" for row in rows)


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, codec, name):
    lines = "".join(json.dumps({"uid": uid, "item_id": item, "price": price}) + "\n" for uid, item, price in ROWS)
    (tmp_path / name).write_bytes((_csv() if name == "log.csv" else lines).encode(codec))
    assert _read(tmp_path / name) == (ROWS, [])


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_delimiter_and_decimal_comma_are_found_and_said(tmp_path, sign):
    (tmp_path / "log.csv").write_text(_csv(sign, comma=True))
    assert _read(tmp_path / "log.csv") == (ROWS, [])
    notes = _listed(tmp_path / "log.csv")[0].notes()
    assert notes == {f"CSV files with {sign!r} between cells and ',' before decimals": 1}


def test_what_could_be_a_thousand_is_never_taken_for_a_fraction(tmp_path):
    (tmp_path / "log.csv").write_text("uid;item_id;price\nu;a;1,234\nu;b;1.234,50\nu;c;1.234\n")
    prices = [row[2] for row in _read(tmp_path / "log.csv", decimal=",")[0]]
    assert prices == ["1.234", "1234.50", "1.234 (a point where decimals have a comma)"]
    assert _read(tmp_path / "log.csv", decimal=".")[0][0][2] == "1,234"


def test_one_column_alone_names_the_setting(tmp_path):
    (tmp_path / "log.csv").write_text("uid:item_id\nu:a\n")
    with pytest.raises(UserError, match=r"one column only.*set delimiter"):
        _read(tmp_path / "log.csv")
    assert _read(tmp_path / "log.csv", delimiter=":")[0] == [("u", "a")]


def test_lines_in_another_encoding_are_told_or_read(tmp_path):
    lines = [json.dumps({"uid": f"Jos{letter}", "item_id": "a"}, ensure_ascii=False) for letter in "\u00e9\u00e8e"]
    (tmp_path / "log.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    rows, malformed = _read(tmp_path / "log.jsonl")
    assert rows == [("Jose", "a")]
    assert [reason for reason, _ in malformed] == [
        "line is not UTF-8 text (set encoding if the file is in another)"
    ] * 2
    assert len(_read(tmp_path / "log.jsonl", encoding="latin-1")[0]) == 3


def test_a_doubled_column_harms_only_where_it_is_mapped(tmp_path):
    (tmp_path / "log.csv").write_text("uid,item_id,note,note\nu,a,1,2\n")
    assert _read(tmp_path / "log.csv")[0] == [("u", "a")]
    with pytest.raises(UserError, match=r"log\.csv has the column 'note' 2 times"):
        _read(tmp_path / "log.csv", columns={"user_id": "uid", "price": "note"})


def test_a_column_may_begin_late_but_not_nowhere(tmp_path):
    rows = [{"uid": "u", "item_id": "a"}] * 1100 + [{"uid": "u", "item_id": "a", "amount": 1}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"user_id": "uid", "price": "amount"}
    assert len(_read(tmp_path / "log.jsonl", columns=columns)[0]) == 1101
    with pytest.raises(UserError, match="no column 'sum'"):
        _read(tmp_path / "log.jsonl", columns={"user_id": "uid", "price": "sum"})


def test_an_optional_column_may_be_missing_in_some_files(tmp_path):
    (tmp_path / "a.csv").write_text("uid,item_id\nu,a\n")
    (tmp_path / "b.csv").write_text("uid,item_id,amount\nu,a,1\n")
    listing, _ = _listed(tmp_path, columns={"user_id": "uid", "price": "amount"})
    assert listing.lacking == {"amount": [tmp_path / "a.csv"]}


def test_fields_inside_objects_are_named_by_path_and_an_object_is_no_id(tmp_path):
    rows = [{"user": {"id": "u1"}, "item_id": "a"}, {"user": {"id": 2.0}, "item_id": "b"}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "log.json").write_text(json.dumps(rows, indent=1))
    pq.write_table(pa.Table.from_pylist([rows[0]]), tmp_path / "log.parquet")
    for name, found in (("log.jsonl", 2), ("log.json", 2), ("log.parquet", 1)):
        assert _read(tmp_path / name, columns={"user_id": "user.id"})[0] == [("u1", "a"), ("2", "b")][:found]
    assert [reason for reason, _ in _read(tmp_path / "log.jsonl", columns={"user_id": "user"})[1]] == [
        "user_id is an object, no id"
    ] * 2
    (tmp_path / "log.json").write_text(json.dumps(rows)[:-3])
    with pytest.raises(UserError, match=r"log\.json: its JSON array is cut off"):
        _read(tmp_path / "log.json", columns={"user_id": "user.id"})


def test_constants_keep_their_value_and_unknown_ones_are_refused(tmp_path):
    pq.write_table(pa.table({"uid": ["u", "u"], "item_id": ["a", "b"], "price": [1, None]}), tmp_path / "l.parquet")
    assert [row[2] for row in _read(tmp_path / "l.parquet", constants={"price": 9.5})[0]] == ["1.0", "9.5"]
    with pytest.raises(UserError, match="unknown name; got 'scenne'; did you mean 'scene'"):
        _read(tmp_path / "l.parquet", constants={"scenne": "home"})
    with pytest.raises(UserError, match="'shown' is none of"):
        TableConfig.parse({"path": "x", "constants": {"action": "shown"}})


@pytest.mark.parametrize("word", ["NULL", " nan", "", "\\N", "-"])
def test_constants_stand_where_a_number_is_none_however_that_is_written(tmp_path, word):
    (tmp_path / "log.csv").write_text(f"uid,item_id,price\nu,a,{word}\nu,b,2\nu,c,x\n")
    assert [row[2] for row in _read(tmp_path / "log.csv", constants={"price": 9.5})[0]] == ["9.5", "2", "x"]
    pq.write_table(pa.table({"uid": ["u"], "item_id": ["a"], "price": [float("nan")]}), tmp_path / "l.parquet")
    assert _read(tmp_path / "l.parquet", constants={"price": 9.5})[0][0][2] == "9.5"


def test_zstd_is_read_and_new_settings_at_their_defaults_leave_no_trace(tmp_path):
    with pa.output_stream(str(tmp_path / "log.csv.zst"), compression="zstd") as file:
        file.write(_csv().encode())
    assert _read(tmp_path / "log.csv.zst") == (ROWS, [])
    plain = TableConfig.parse({"path": "x"}).model_dump(mode="json")
    assert not {"encoding", "delimiter", "decimal", "column_names", "empty_files"} & set(plain)
    assert TableConfig.parse({"path": "x", "delimiter": ";"}).model_dump()["delimiter"] == ";"


@pytest.mark.parametrize("key", ["true", "True"])
@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_truth_is_translated_however_it_is_spelled(tmp_path, name, key):
    config = TableConfig.parse({"path": str(tmp_path / name), "values": parse_yaml(f"scene: {{{key}: home}}", "text")})
    if name == "log.csv":
        (tmp_path / name).write_text(
            "user_id,item_id,scene\n" + "".join(f"u,a,{x}\n" for x in ("true", "True", "TRUE"))
        )
    else:
        pq.write_table(pa.table({"user_id": ["u"] * 3, "item_id": ["a"] * 3, "scene": [True] * 3}), tmp_path / name)
    part = list_table(config, "logs.files.events", REQUIRED, OPTIONAL).fragments[0]
    scenes = [_text(value) for chunk in read_chunks(part, config, 9) for value in chunk.table["scene"].to_pylist()]
    assert scenes == ["home"] * 3


def test_whole_numbers_that_were_written_with_decimals_have_the_comma_too(tmp_path):
    (tmp_path / "log.csv").write_text("uid;item_id;price;position;age\nu;a;12,5;7,0;1,5\nu;b;3,25;8;9,00\n")
    config = TableConfig.parse({"path": str(tmp_path), "columns": {"user_id": "uid"}, "features": {"age": "integer"}})
    part = list_table(config, "logs.files.events", REQUIRED, (*OPTIONAL, "position")).fragments[0]
    (chunk,) = read_chunks(part, config, 9)
    assert chunk.table["position"].to_pylist() == [b"7.0", b"8"]
    assert chunk.table["age"].to_pylist() == [b"1,5", b"9.00"]


@pytest.mark.parametrize("place", ["here", "nowhere"])
def test_a_column_with_our_name_does_not_stand_in_for_the_one_that_is_mapped(tmp_path, place):
    scene = {"scene": {"name": None if place == "nowhere" else "home"}}
    rows = [{"uid": "u", "item_id": "a", **scene}, {"uid": "u", "item_id": "b", "scene": {"name": "home"}}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TableConfig.parse({"path": str(tmp_path), "columns": {"user_id": "uid", "scene": "scene.name"}})
    part = list_table(config, "logs.files.events", REQUIRED, OPTIONAL).fragments[0]
    scenes = [row.get("scene") for chunk in read_chunks(part, config, 1) for row in chunk.table.to_pylist()]
    assert scenes == [None if place == "nowhere" else "home", "home"]


def test_one_field_with_two_values_in_a_row_is_told_unless_nobody_reads_it(tmp_path):
    lines = [
        '{"uid": "u", "item_id": "a", "price": 1, "price": 2}', '{"uid": "u", "item_id": "b", "price": 1, "price": 1}',
        '{"uid": "u", "item_id": "c", "note": 1, "note": 2}',
        '{"uid": "u", "item_id": "d", "user": {"id": 1, "id": 2}}',
        '{"uid": "\\":", "item_id": "e", "user": {"id": 3}}',
        '{"uid" : "u", "item_id" : "f", "price" : 1, "price" : 2}',
        '{"uid": "u", "item_id": "g", "more": [[{"id": 5}], {"price": 6, "price": 7}], "user": {"id": 3}}',
        '{"uid" : "u", "item_id": "h", "more": [1, {"a": {"b": []}}]}',
        '{"uid": "u", "item_id": "i", "price"  : 1, "price"  : 2}',
    ]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    (tmp_path / "log.json").write_text("[" + ",".join(lines) + "]")
    for name in ("log.jsonl", "log.json"):
        rows, malformed = _read(tmp_path / name, columns={"user_id": "uid", "scene": "user.id"})
        assert [row[1] for row in rows] == ["b", "c", "e", "h"]
        twice = ["price", "id", "price", "price", "price"]
        assert [reason for reason, _ in malformed] == [f"line has two values of {name!r}" for name in twice]


def test_dictionaries_inside_structs_are_read_across_row_groups(tmp_path):
    words = pa.array(["u1", "u2"] * 10).dictionary_encode()
    users = pa.StructArray.from_arrays([words], names=["id"])
    pq.write_table(pa.table({"user": users, "item_id": ["a"] * 20}), tmp_path / "log.parquet", row_group_size=3)
    found = _read(tmp_path / "log.parquet", columns={"user_id": "user.id"})[0]
    assert [row[0] for row in found] == ["u1", "u2"] * 10


def test_views_of_text_are_text_wherever_they_stand(tmp_path):
    text = pa.array(["u1", "a user whose id is no short one", None], pa.string_view())
    table = pa.table({
        "user": pa.StructArray.from_arrays([text], names=["id"]), "item_id": text, "scene": text.cast(pa.binary_view()),
        "tags": pa.array([["x"], None, []], pa.list_(pa.string_view())),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "log.parquet")
    config = TableConfig.parse({"path": str(tmp_path), "columns": {"user_id": "user.id"}})
    part = list_table(config, "logs.files.events", REQUIRED, OPTIONAL).fragments[0]
    (chunk,) = read_chunks(part, config, 9)
    assert not [kind for kind in chunk.table.schema.types if "view" in str(kind)]
    assert chunk.table["user_id"].to_pylist() == chunk.table["item_id"].to_pylist() == text.to_pylist()
    assert [row["tags"] for row in chunk.table.filter(pa.array([True, False, True])).to_pylist()] == [["x"], []]
