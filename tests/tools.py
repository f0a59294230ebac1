"""Programs that some tests drive: prometheus, promtool, redis-server, chromium."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRED = "ADBEAM_TOOLS_REQUIRED"


def tool(*names: str) -> str:
    """The path of the first of `names` on this machine; without any the test is skipped, and fails where CI runs."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        reason = f"{names[0]} is not installed: apt-get install {names[0]}"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
