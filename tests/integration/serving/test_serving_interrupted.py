"""`adbeam serve` that is told to stop while it starts leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.support.replicas import write_tokenized_bundle

pytestmark = pytest.mark.alone

ROOT, BIN = Path(__file__).parents[3], Path(sys.executable).parent
SECONDS = 120.0


def test_a_start_that_is_interrupted_ends_all_it_started(tmp_path: Path) -> None:
    write_tokenized_bundle(tmp_path / "bundles", 50)
    config = [str(BIN / "adbeam"), "serve", "-c", str(ROOT / "serving" / "ads.yaml"), "--port", "18590"]
    paths = {"bundle": "bundles", "store.path": "h.sqlite", "updates.path": "ads.sqlite"}
    command = [*config, *(f"--set={key}={tmp_path / name}" for key, name in paths.items())]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=dict(os.environ), stdout=log, stderr=log)
    serving = psutil.Process(process.pid)
    started: list[psutil.Process] = []
    end = time.monotonic() + SECONDS
    while not any("haproxy" in child.name() for child in started):
        assert process.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
        started = [child for child in serving.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) != 0
    assert not psutil.wait_procs(started, timeout=20)[1]
