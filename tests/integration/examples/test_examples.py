"""Every example runs as its page says: one log, one bundle and one endpoint for all of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.replicas import start_replicas, stop_replicas

ROOT = Path(__file__).parents[3]
PORT = 18741
KEY = "a-key-for-tests"


def run(folder: Path, *command: str) -> str:
    """What a command printed, run where a user would, in a folder that looks like the repository."""
    path = os.pathsep.join([str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ADBEAM_USER_KEY": KEY}
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    return answer.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, in which the first one has been run."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "examples").symlink_to(ROOT / "examples")
    assert "wrote 4500 events of 80 ads" in run(folder, sys.executable, "examples/own_log/write_log.py")
    printed = run(folder, sys.executable, "examples/own_log/run.py")
    assert re.search(r"all/model +recall@10 0\.\d+", printed), printed
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """An endpoint of that bundle that writes both logs."""
    serving = folder / "runs/examples/serving"
    os.environ["ADBEAM_USER_KEY"] = KEY
    args = {
        "bundle": str(folder / "runs/examples/bundles"),
        "store": {"path": str(serving / "histories.sqlite"), "prepared": str(folder / "runs/examples/prepared")},
        "event_log": {"folder": str(serving / "events"), "rotate_seconds": 1},
        "request_log": {"folder": str(serving / "requests"), "rotate_seconds": 1},
        "engine": {"calibration_seconds": 0.3},
    }
    processes = start_replicas(args, [PORT])
    yield f"http://127.0.0.1:{PORT}"
    stop_replicas(processes)
    del os.environ["ADBEAM_USER_KEY"]


def test_recommending_offline(folder: Path) -> None:
    printed = run(folder, sys.executable, "examples/recommend.py", "runs/examples/bundles", "A4", "A8")
    assert "somebody new" in printed and "100 answers of 3 ads" in printed
    assert len(re.findall(r"^  A\d+ ", printed, re.MULTILINE)) == 10


def test_curl(folder: Path, url: str) -> None:
    lines = run(folder, "examples/curl.sh", url).splitlines()
    answers = [json.loads(line) for line in lines if line.startswith("{")]
    first, receipt, second, refusal, status = answers
    assert len(first["ads"]) == 3 and first["request_id"] == "curl-1"
    assert receipt["accepted"] == 1
    assert not second["served"]["cold_start"] and all(ad.get("advertiser") != "maker 1" for ad in second["ads"])
    assert {error["field"] for error in refusal["errors"]} == {"count", "colour"}
    assert status["model_version"] == first["served"]["model_version"]


def test_openrtb(folder: Path, url: str) -> None:
    printed = run(folder, "examples/openrtb.sh", url)
    assert re.match(r"HTTP/1.1 20[04] ", printed) and "x-openrtb-version: 2.6" in printed.lower()


def test_an_online_round(folder: Path, url: str) -> None:
    printed = run(folder, sys.executable, "examples/online_round.py", url)
    assert re.search(r"^round 1: (published|refused): ", printed, re.MULTILINE), printed


@pytest.mark.full  # other tests train on two workers too
def test_training_on_two_workers(folder: Path) -> None:
    printed = run(folder, sys.executable, "examples/two_workers.py", "training.max_steps=4")
    assert re.search(r"^4 steps on two workers, loss \d+\.\d+$", printed, re.MULTILINE), printed


def test_every_example_is_on_the_page_and_is_run_here() -> None:
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    named = {name.split("/")[0] for name in re.findall(r"^\| \[[\w.]+\]\(([^)]+)\)", page, re.MULTILINE)}
    there = {path.name for path in (ROOT / "examples").iterdir()} - {"README.md", "__pycache__"}
    assert named == there
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in there if name not in tests] == []
