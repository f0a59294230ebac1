"""One result file for every benchmark: date, commit, command, hardware, figures."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STARTED_S = time.monotonic()
"""When the run began, nearly: benchmarks import this first."""


def report(name: str, figures: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> Path:
    """Write `NAME.json` into the working folder and print it; `extra` holds tables and settings beside the figures, as
    do lists among them."""
    path = write(name, figures, extra)
    print(json.dumps({name: figure for name, figure in figures.items() if not isinstance(figure, list)}, indent=2))
    print(f"wrote {path}; to cite it: cp {path} benchmarks/results/{datetime.date.today().isoformat()}-{name}.json")
    return path


def write(name: str, figures: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> Path:
    """As report, in silence: what a long benchmark has so far."""
    lists = {name: figure for name, figure in figures.items() if isinstance(figure, list)}
    result = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "command": command(name),
        "hardware": hardware(),
        "minutes": round((time.monotonic() - STARTED_S) / 60, 1),
        "figures": {name: figure for name, figure in figures.items() if name not in lists},
        **(extra or {}),
        **lists,
    }
    path = Path(f"{name}.json")
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path


def command(name: str) -> str:
    """How this benchmark was called; of a path of this machine the last name."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return f"python -m benchmarks.{name} {' '.join(words)}".strip()


def commit(*paths: str) -> str:
    """The short hash of HEAD, or of the last commit that changed `paths`, with -dirty where tracked files differ."""
    log = ["git", "log", "-1", "--format=%h", "--", *paths]
    answer = subprocess.run(log, capture_output=True, text=True, check=False)
    changed = ["git", "status", "--porcelain", "-uno", "--", *paths]
    dirty = subprocess.run(changed, capture_output=True, text=True, check=False)
    return answer.stdout.strip() + ("-dirty" if dirty.stdout.strip() else "")


def hardware() -> str:
    """Cores, processor, memory, system and Python of this machine."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory = next((int(line.split()[1]) / 2**20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return f"{os.cpu_count()} cores, {model}, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
