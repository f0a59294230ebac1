"""Every name of `python -m benchmarks.NAME` stays, whatever files stand behind it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = (
    "beauty", "decode", "decode_scale", "fuzz", "gpu", "house", "index", "inputs", "ladder", "ladder_tune",
    "money", "off_policy", "operations", "prepare", "quickstart", "requests", "spike", "spike_simulated", "told",
    "tokens", "tokens_speed", "training", "training_memory", "training_phases", "value_offline",
)  # fmt: skip
LIGHT = ("gpu", "house", "index", "inputs", "prepare", "training_memory")
"""Those whose options are read before torch or Ray is imported."""


@pytest.mark.parametrize("name", NAMES)
def test_the_name_runs_a_main_that_exists(name: str) -> None:
    script = ROOT / "benchmarks" / name / "__main__.py"
    (start,) = [node for node in ast.parse(script.read_text()).body if isinstance(node, ast.ImportFrom)]
    assert start.module is not None and [alias.name for alias in start.names] == ["main"]
    module = (ROOT / start.module.replace(".", "/")).with_suffix(".py")
    functions = [node.name for node in ast.parse(module.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert "main" in functions


def test_every_benchmark_is_named() -> None:
    assert sorted(path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")) == sorted(NAMES)


@pytest.mark.parametrize("name", LIGHT)
def test_the_name_tells_its_options(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    path = os.pathsep.join([str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")])
    answer = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0 and answer.stdout.startswith("usage:"), answer.stderr
