"""What it takes to join: a light import, outside parts, examples that run, a quick check of a room, a built site."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
REPEATS = 7
IMPORT = "import adbeam; adbeam.__version__"
ROOM = "beams"


def import_seconds(environment: Mapping[str, str]) -> float:
    """Wall seconds of a new process that imports adbeam and asks for its version, median; Python's start is in it."""
    times = [_seconds([sys.executable, "-c", IMPORT], environment) for _ in range(REPEATS + 1)]
    return median(times[1:])  # the first one compiles the modules


def extension_kinds() -> int:
    """Kinds of parts that other packages may bring."""
    from adbeam.imports.extension_points import KINDS

    return len(KINDS)


def examples_run(environment: Mapping[str, str]) -> int:
    """Examples of examples/README.md, once their tests have passed; stops on a failure."""
    _seconds([sys.executable, "-m", "pytest", "-q", "tests/integration/examples"], environment)
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    return len(re.findall(r"^\| \[", page, re.MULTILINE))


def room_check_seconds(environment: Mapping[str, str]) -> float:
    """Wall seconds of `make check ROOM=beams` once mypy has its cache; stops on a failure."""
    command = ["make", "check", f"ROOM={ROOM}"]
    _seconds(command, environment)
    return _seconds(command, environment)


def docs_pages(environment: Mapping[str, str]) -> int:
    """Pages of the documentation site, built strictly; stops where a link leads nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
        _seconds([*command, "--config-file", "website/mkdocs.yml"], environment)
        return sum(1 for path in Path(folder).rglob("*.html") if path.name != "404.html")


def _seconds(command: list[str], environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=dict(environment), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
