"""One training sample for all files of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.training.samples import training_config, write_training_sample

from adbeam.config import Config


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_training_sample(folder)
    return folder


@pytest.fixture
def configure(sample: Path, tmp_path: Path) -> Callable[..., Config]:
    """A configuration in a work_dir of the test's own that shares the sample's log and tokens."""

    def make(training: dict[str, Any], name: str = "work", **sections: Any) -> Config:
        work_dir = tmp_path / name
        work_dir.mkdir(exist_ok=True)
        for step in ("prepared", "tokens"):
            if not (work_dir / step).exists():
                (work_dir / step).symlink_to(sample / step)
        return training_config(work_dir, {"report_interval_steps": 1, "max_steps": 20, **training}, **sections)

    return make
