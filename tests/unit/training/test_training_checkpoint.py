"""Which checkpoint of a run on a cluster is taken: the newest whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from adbeam import artifacts
from adbeam.training.state.checkpoint import META, broken, newest_whole, seal


def write_checkpoint(folder: Path, world: int = 2) -> Path:
    """Each worker's files with their list, all in one folder as Ray merges them."""
    for rank in range(world):
        part = folder.parent / f".part{rank}"
        (part / "state").mkdir(parents=True)
        (part / "state" / f"rank{rank}.pt").write_bytes(bytes([rank] * 9))
        if rank == 0:
            artifacts.write_json(part / META, {"world": world})
        seal(part, rank)
        for path in [path for path in part.rglob("*") if path.is_file()]:
            target = folder / path.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        (part / "state").rmdir()
        part.rmdir()
    return folder


def test_a_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "step_01")
    newest = write_checkpoint(tmp_path / "step_02")
    write_checkpoint(tmp_path / "step_03")
    assert broken(newest) is None
    assert newest_whole(newest) == newest


@pytest.mark.parametrize("lost", ["state/rank1.pt", "files_rank00001.json", "meta.json"])
def test_one_that_lacks_a_file_is_passed_over(tmp_path: Path, lost: str) -> None:
    older = write_checkpoint(tmp_path / "step_01")
    newest = write_checkpoint(tmp_path / "step_02")
    (newest / lost).unlink()
    assert lost in (broken(newest) or "") or lost == "meta.json"
    assert newest_whole(newest) == older


def test_one_that_was_altered_is_passed_over_and_none_may_be_left(tmp_path: Path) -> None:
    only = write_checkpoint(tmp_path / "step_01")
    (only / "state" / "rank0.pt").write_bytes(b"123456789")
    assert broken(only) == "state/rank0.pt is missing or differs"
    assert newest_whole(only) is None
