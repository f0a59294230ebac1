"""Settings every test needs before Ray is imported, and one Ray for the whole session."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator

from adbeam.serving.deploy.environment import LOCAL_SWITCHES, SWITCHES

os.environ.update(
    {
        **SWITCHES,
        **LOCAL_SWITCHES,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
    }
)

import pytest

gc.disable()  # what is imported and collected stays: to look through it again and again finds nothing


def pytest_collection_finish() -> None:
    """From here on memory is cleaned up, but for what stays."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes the shared Ray has the machine to itself."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker("alone")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for all integration tests."""
    import ray

    ray.init(
        num_cpus=4,
        object_store_memory=512 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()
