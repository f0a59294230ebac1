"""Tests that stand for cases, run and counted."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def count_cases(paths: Sequence[str]) -> tuple[int, int]:
    """(how many pass, how many there are) of the tests in `paths`, below the repository's root."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *paths], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    words = ran.stdout.strip().splitlines()[-1].replace(",", "").split()
    counts = {word: int(number) for number, word in itertools.pairwise(words) if number.isdigit()}
    right = counts.get("passed", 0)
    return right, right + counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
