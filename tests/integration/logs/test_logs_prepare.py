"""The preparation on a real Ray: the same result as in one process, and errors that reach the user whole."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.samples import write_sample_log

from adbeam.errors import UserError
from adbeam.logs import prepare
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run

pytestmark = pytest.mark.usefixtures("ray_session")


def test_ray_prepares_what_one_process_prepares(tmp_path, capsys):
    sample = write_sample_log(tmp_path, users=20, items=40)
    rows = pq.read_table(sample.events).to_pylist()
    dirty = [*rows, rows[0], {**rows[1], "event_id": "bad", "price": -1.0}]
    folder = tmp_path / "log"
    folder.mkdir()
    for part in range(3):
        table = pa.Table.from_pylist(dirty[part::3], schema=pq.read_schema(sample.events))
        pq.write_table(table, folder / f"{part}.parquet")
    files = {"events": str(folder), "catalogue": str(sample.catalogue)}
    logs = LogsConfig.parse(sample.settings | {"files": files, "shards": 3, "batch_rows": 100})
    ours = prepare(SimpleNamespace(work_dir=tmp_path / "ray", logs=logs))
    assert "price is negative" in capsys.readouterr().out
    theirs = run(SimpleNamespace(work_dir=tmp_path / "process", logs=logs), in_process=True)
    assert ours.account == theirs.account
    assert ours.account["duplicates"] == 1 and ours.account["reasons"] == {"price is negative": 1}
    assert [path.name for path in ours.sequences()] == [
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    ]
    assert {name: file["sha256"] for name, file in ours.manifest["files"].items() if "quarantine" not in name} == {
        name: file["sha256"] for name, file in theirs.manifest["files"].items() if "quarantine" not in name
    }


def test_a_file_damaged_inside_is_named_without_a_stack_of_a_worker(tmp_path):
    sample = write_sample_log(tmp_path, users=4, items=20)
    data = bytearray(sample.events.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    sample.events.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"events\.parquet cannot be read as Parquet") as caught:
        prepare(SimpleNamespace(work_dir=tmp_path / "work", logs=LogsConfig.parse(sample.settings)))
    assert "ray::" not in str(caught.value)
    assert list((tmp_path / "work").iterdir()) == []
