"""Programs that some tests drive (prometheus, promtool, redis-server, chromium), and modules of extras."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest

REQUIRED = "ADBEAM_TOOLS_REQUIRED"


def tool(name: str, package: str | None = None) -> str:
    """The path of a program of this machine; without it the test is skipped, and fails where CI runs."""
    found = shutil.which(name)
    if found is None:
        _missing(f"{name} is not installed: apt-get install {package or name}")
    return str(found)


def module(name: str, extra: str) -> None:
    """Needs a Python module that comes with an extra; without it as without a program."""
    if importlib.util.find_spec(name) is None:
        _missing(f"{name} is not installed: pip install -e '.[{extra}]'")


def _missing(reason: str) -> None:
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)
