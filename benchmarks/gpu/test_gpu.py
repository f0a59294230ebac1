"""The GPU benchmark is rehearsed on a CPU with small shapes, where neither Ray nor DeepSpeed can be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.run import FIGURES, LIMIT_SECONDS, one_part

ROOT = Path(__file__).parents[2]
BLOCK = "import sys\nfor name in ('ray', 'deepspeed'):\n    sys.modules[name] = None\n"
"""Python runs a sitecustomize on the path before anything else, in children too."""


def test_all_parts_end_whole_without_ray_and_deepspeed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True)
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: part["ended"] for name, part in result["parts"].items()} == dict.fromkeys(LIMIT_SECONDS, "whole")
    assert all(result["figures"][name] is not None for name in set(FIGURES) - {"gpu_rps_100ms_paper"})
    assert all(row["all_legal"] for row in result["parts"]["exact"]["rows"])
    assert result["figures"]["gpu_top10_agreement_graphs"] == 1, "on a CPU nothing is recorded: the same decoder twice"


def test_a_part_that_fails_or_takes_too_long_says_so() -> None:
    assert one_part("exact", "no-such-device", True, 60)["ended"].startswith("failed")
    assert one_part("exact", "cpu", True, 0.1) == {"ended": "stopped after 0.1 s"}


def test_limits_fit_into_ten_minutes() -> None:
    assert sum(LIMIT_SECONDS.values()) < 600
