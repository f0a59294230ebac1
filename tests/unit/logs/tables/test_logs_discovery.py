"""Every file that a path names is read, passed over by a rule of the field, or refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from adbeam.errors import UserError
from adbeam.logs.config import TableConfig
from adbeam.logs.reading import list_fragments, read_chunks
from adbeam.logs.tables.discovery import list_files

FIELD = "logs.files.events"


def _write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"user_id\n{name}\n" if ".csv" in name.lower() else f'{{"user_id": "{name}"}}\n'
        path.write_bytes(gzip.compress(text.encode()) if name.lower().endswith(".gz") else text.encode())


def _found(folder: Path, *paths: str, kind: str = "auto") -> list[str]:
    config = TableConfig.parse({"path": [str(folder / path) for path in paths], "format": kind})
    return [str(path.relative_to(folder)) for path in list_files(config, FIELD)]


def test_a_folder_is_read_with_its_sub_folders_and_endings_of_any_case(tmp_path):
    names = ["B.CSV", "C.CSV.GZ", "a.csv", "dt=1/hour=2/part.jsonl", "part-2.json.gz", "z.ndjson"]
    _write(tmp_path, *names)
    assert _found(tmp_path, ".") == names
    config = TableConfig.parse({"path": str(tmp_path)})
    fragments = list_fragments(config, FIELD, ("user_id",), ())
    users = [chunk.table["user_id"][0].as_py() for part in fragments for chunk in read_chunks(part, config, 10)]
    assert [user.decode() if isinstance(user, bytes) else user for user in users] == names


def test_markers_and_spare_copies_are_passed_over_unless_they_are_named(tmp_path):
    _write(tmp_path, "a.csv", "_SUCCESS", ".a.csv.crc", "_b.csv", ".c.csv", "_temporary/0/d.csv", "_day=1/e.csv")
    assert _found(tmp_path, ".") == ["_day=1/e.csv", "a.csv"]
    assert _found(tmp_path, "*.csv") == ["a.csv"]
    assert _found(tmp_path, "**/*.csv") == ["_day=1/e.csv", "a.csv"]
    assert _found(tmp_path, "_b.csv", ".c.csv") == ["_b.csv", ".c.csv"]
    assert _found(tmp_path, "_*.csv") == ["_b.csv"]
    assert _found(tmp_path, "_temporary/*/*.csv") == ["_temporary/0/d.csv"]


def test_folders_that_a_glob_matches_are_read_once(tmp_path):
    _write(tmp_path, "dt=1/a.csv", "dt=2/b.csv", "dt=2/deep/c.csv")
    assert _found(tmp_path, "dt=*") == _found(tmp_path, "**/*") == _found(tmp_path, "**")
    assert _found(tmp_path, "**") == ["dt=1/a.csv", "dt=2/b.csv", "dt=2/deep/c.csv"]


def test_a_link_back_to_a_folder_ends(tmp_path):
    _write(tmp_path, "data/a.csv")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    assert _found(tmp_path, "data") == ["data/a.csv"]


def test_a_file_that_nothing_can_be_told_of_is_refused_by_name(tmp_path):
    _write(tmp_path, "a.csv", *(f"part-{number}" for number in range(6)), "deep/b.csv.xz")
    with pytest.raises(UserError, match=r"would not be read: deep/b\.csv\.xz, part-0, .* and 2 more.*set format"):
        _found(tmp_path, ".")


def test_a_format_that_is_set_takes_files_without_an_ending(tmp_path):
    _write(tmp_path, "part-0", "part-1", "_SUCCESS")
    assert _found(tmp_path, ".", kind="jsonl") == ["part-0", "part-1"]


def test_an_empty_folder_is_no_log(tmp_path):
    _write(tmp_path, "log/_SUCCESS")
    with pytest.raises(UserError, match=r"logs\.files\.events\.path: no such file"):
        _found(tmp_path, "log")


def test_what_a_partition_folder_says_can_be_mapped(tmp_path):
    _write(tmp_path, "scene=top%20bar/a.csv", "scene=__HIVE_DEFAULT_PARTITION__/b.csv")
    required, config = ("user_id", "scene"), {"path": str(tmp_path), "columns": {"scene": "scene"}}
    fragments = list_fragments(TableConfig.parse(config), FIELD, required, ())
    chunks = [chunk for part in fragments for chunk in read_chunks(part, TableConfig.parse(config), 10)]
    assert [chunk.table["scene"].to_pylist() for chunk in chunks] == [[None], ["top bar"]]
    with pytest.raises(UserError, match=r"'scene' is the name of its folder.*map it.*columns: \{scene: scene\}"):
        list_fragments(TableConfig.parse({"path": str(tmp_path)}), FIELD, required, ())


@pytest.mark.parametrize(
    ("marker", "table"),
    [("_delta_log/0.json", "Delta"), (".hoodie/x", "Hudi"), ("metadata/v1.metadata.json", "Iceberg")],
)
@pytest.mark.parametrize("path", ["log", "log/data", "log/data/*.csv", "log/data/a.csv", "lo*"])
def test_a_table_of_another_format_is_refused_however_it_is_named(tmp_path, marker, table, path):
    _write(tmp_path, "log/data/a.csv", f"log/{marker}")
    with pytest.raises(UserError, match=f"is a {table} table.*write its current version out"):
        _found(tmp_path, path)
