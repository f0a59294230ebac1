"""Parts without rows are passed over and named in the account; a log of nothing else is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.support.samples import START_MS, TEST_FROM_MS, VALIDATION_FROM_MS

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog

MOMENTS = (START_MS, VALIDATION_FROM_MS, TEST_FROM_MS)
ROWS = "".join(
    json.dumps({"user_id": "u", "item_id": "a", "action": "click", "timestamp": moment}) + "\n" for moment in MOMENTS
).encode()


def _prepare(folder: Path, parts: dict[str, bytes]) -> PreparedLog:
    (folder / "log").mkdir()
    for name, content in parts.items():
        (folder / "log" / name).write_bytes(content)
    (folder / "ads.csv").write_text("item_id\na\n")
    files = {"events": str(folder / "log"), "catalogue": str(folder / "ads.csv")}
    split = {"by": "time", "validation_from": VALIDATION_FROM_MS, "test_from": TEST_FROM_MS}
    logs = LogsConfig.parse({"source": "files", "files": files, "split": split})
    return run(SimpleNamespace(work_dir=folder / "run", logs=logs), in_process=True)


def test_empty_parts_are_passed_over_and_named(tmp_path):
    empty = {"b.parquet": b"", "c.csv": b"", "d.jsonl.gz": gzip.compress(b""), "e.jsonl": b"\n \n", "f.json": b"[ ]\n"}
    account = _prepare(tmp_path, {"a.jsonl": ROWS, **empty}).account
    assert account["rows_in"] == account["kept"] == 3
    assert account["source"] == {f"empty file {tmp_path / 'log' / name}": 1 for name in empty}


def test_of_many_empty_parts_the_first_are_named_and_the_rest_counted(tmp_path):
    empty = {f"part-{number:02d}.csv": b"" for number in range(13)}
    account = _prepare(tmp_path, {"a.jsonl": ROWS, **empty}).account
    assert account["source"]["more empty files"] == 3
    assert len(account["source"]) == 11


def test_a_log_without_empty_parts_says_nothing_of_them(tmp_path):
    assert _prepare(tmp_path, {"a.jsonl": ROWS}).account["source"] == {}


def test_a_log_of_empty_parts_alone_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"logs\.files\.events\.path.*c\.csv is empty"):
        _prepare(tmp_path, {"c.csv": b"", "e.jsonl": b"\n"})


def test_a_part_that_cannot_be_unpacked_is_not_taken_for_empty(tmp_path):
    cut = gzip.compress(ROWS)[:-9]
    with pytest.raises(UserError, match=r"d\.jsonl\.gz cannot be read as jsonl"):
        _prepare(tmp_path, {"a.jsonl": ROWS, "d.jsonl.gz": cut})


@pytest.mark.parametrize("text", ["user_id,timestamp,item_id,action", "\n\nuser_id,timestamp,item_id,action"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_a_header_alone_is_a_part_without_rows(tmp_path, text, end):
    account = _prepare(tmp_path, {"a.jsonl": ROWS, "b.csv": (text + end).encode()}).account
    assert account["rows_in"] == account["kept"] == 3
