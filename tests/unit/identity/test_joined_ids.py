"""Users of several columns: two different people never become one id, and what is no id is not lost."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig, TableConfig
from adbeam.logs.ids.columns import id_texts
from adbeam.logs.ids.joined import joined_ids
from adbeam.logs.pipeline import describe, run
from adbeam.logs.reading import list_fragments, read_chunks

COLUMNS = {"user_id": ["ip", "browser"]}
LOG = """item_id,ip,browser,visit,timestamp,action
a,guest,GUEST,v,1,conversion
b,0,0,0,1,conversion
c,x,guest,v,2,conversion
c,x,guest,v,3,conversion
"""


def test_the_parts_are_joined_and_no_two_pairs_become_one() -> None:
    words = ["a", "a|", "|a", "|", "\\", "\\|", "a\\", "007", "7", " a"]
    pairs = list(product(words, words))
    ids = joined_ids([pa.array(part) for part in zip(*pairs, strict=True)], "user_id").to_pylist()
    assert len(set(ids)) == len(pairs)
    assert ids[0] == "a|a" and joined_ids([pa.array(["a|b"]), pa.array(["c\\"])], "user_id")[0].as_py() == "a\\|b|c\\\\"


def test_a_missing_part_is_empty_and_only_nobody_throughout_is_nobody() -> None:
    left, right = pa.array(["a", None, None, "NULL", "0", "", "x"]), pa.array([None, 7, None, None, 0, 0, 0])
    assert joined_ids([left, right], "user_id").to_pylist() == ["a|", "|7", None, None, None, None, "x|0"]


def test_words_that_a_log_declares_mean_nobody_and_no_others() -> None:
    left, right = pa.array(["Guest", "0", "guest", ""]), pa.array(["guest ", "0", "x", None])
    assert joined_ids([left, right], "user_id", ("guest",)).to_pylist() == [None, "0|0", "guest|x", None]


@pytest.mark.parametrize("catalogue", ["ads.csv", "from_log"])
def test_a_log_of_joined_users_goes_by_its_own_words_for_nobody(tmp_path: Path, catalogue: str) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "ads.csv").write_text("item_id\na\nb\nc\n")
    files = {
        "events": {"path": str(tmp_path / "log.csv"), "columns": {**COLUMNS, "request_id": ["ip", "visit"]}},
        "catalogue": catalogue if catalogue == "from_log" else str(tmp_path / catalogue),
        "nobody_words": ["guest"],
    }
    split = {"by": "time", "validation_from": 2, "test_from": 3}
    logs = LogsConfig.parse({"source": "files", "split": split, "files": files, "max_quarantined": 1, "shards": 1})
    prepared = run(SimpleNamespace(work_dir=tmp_path / "run", logs=logs, features={}), in_process=True)
    rows = [row for path in prepared.events() for row in pq.read_table(path).to_pylist()]
    assert {(row["user_id"], row["request_id"]) for row in rows} == {("0|0", "0|0@1"), ("x|guest", "x|v")}
    assert prepared.account["reasons"] == {"user_id is empty": 1}
    assert sorted(prepared.catalogue()["item_id"].to_pylist()) == (["b", "c"] if catalogue == "from_log" else [*"abc"])


def test_a_part_that_is_no_id_is_marked() -> None:
    floats = pa.array([1.0, 2.0**53, 3.5])
    ids = joined_ids([pa.array(["a", "b", "c"]), floats], "user_id")
    text, problems = id_texts(ids, "user_id")
    assert text.to_pylist() == ["a|1", None, None]
    assert [(where.tolist(), reason) for where, reason in problems] == [([False, True, True], "user_id is not text")]
    assert joined_ids([pa.array([b"caf\xe9", b"x"]), pa.array([1, 2])], "user_id").to_pylist() == [b"\xff", b"x|2"]


def users(path: Path, **settings: Any) -> list[Any]:
    config = TableConfig.parse({"path": str(path), "columns": COLUMNS, **settings})
    fragments = list_fragments(config, "logs.files.events", ("user_id", "item_id"), ("scene",))
    return [
        user
        for part in fragments
        for chunk in read_chunks(part, config, 9)
        for user in chunk.table["user_id"].to_pylist()
    ]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_every_format_gives_the_same_users(tmp_path: Path, name: str) -> None:
    rows = [{"item_id": "a", "ip": "10.0.0.1", "browser": 7}, {"item_id": "b", "ip": "10.0.0.1", "browser": 8}]
    if name.endswith("csv"):
        (tmp_path / name).write_text("item_id;ip;browser\na;10.0.0.1;7\nb;10.0.0.1;8\n")
    elif name.endswith("jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    assert users(tmp_path / name) == ["10.0.0.1|7", "10.0.0.1|8"]


def test_a_part_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("item_id,ip\na,10.0.0.1\n")
    with pytest.raises(UserError, match=r"events\.columns\.user_id: .*no column 'browser'"):
        users(tmp_path / "log.csv")


@pytest.mark.parametrize(
    ("columns", "told"),
    [({"item_id": ["a", "b"]}, "several columns make only user_id or request_id"), ({"user_id": ["a"]}, "at least 2")],
)
def test_what_cannot_be_joined_is_refused(columns: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        TableConfig.parse({"path": "log.csv", "columns": columns})


def test_a_list_is_written_as_a_list_and_decides_what_is_current() -> None:
    split = {"by": "time", "validation_from": 1, "test_from": 2}
    logs = [
        LogsConfig.parse({"source": "files", "split": split, "files": {
            "events": {"path": "log.csv", "columns": {"user_id": user}}, "catalogue": "ads.csv"}})
        for user in ("ip", ["ip", "browser"], ["browser", "ip"])
    ]  # fmt: skip
    assert LogsConfig.parse(logs[1].model_dump(mode="json")) == logs[1]
    assert len({describe(one, [])["fingerprint"] for one in logs}) == 3
