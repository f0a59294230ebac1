"""Programs that some tests drive: prometheus, promtool, redis-server, chromium."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRED = "ADBEAM_TOOLS_REQUIRED"


def tool(name: str, package: str | None = None) -> str:
    """The path of a program of this machine; without it the test is skipped, and fails where CI runs."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed: apt-get install {package or name}"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
