"""What is started often starts fast: settings, the status, and tasks that Ray runs in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

TASKS = [
    "adbeam.logs.pipeline",
    "adbeam.logs.reading",
    "adbeam.logs.requests",
    "adbeam.logs.shards",
    "adbeam.logs.trending",
    "adbeam.logs.validate",
    "adbeam.tokens.streaming",
    "adbeam.tokens.cooccurrence.swing_job",
    "adbeam.features.contexts",
    "adbeam.features.sid_table",
    "adbeam.features.trends",
    "adbeam.training.data.build_rows",
    "adbeam.training.data.list_rows",
    "adbeam.training.data.order",
    "adbeam.training.data.row_builder",
    "adbeam.training.data.rows",
    "adbeam.training.data.stream",
    "adbeam.foundation.data.build_rows",
    "adbeam.rewards.exposures",
    "adbeam.online.join",
    "adbeam.online.rows",
]
"""What a worker of Ray Data imports before it runs a task of ours."""


def loaded_by(modules: list[str]) -> dict[str, set[str]]:
    """{module: what it has loaded of the heavy packages}, each on top of those before it, in one new process."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    print(name, *({'torch', 'ray', 'pandas', 'safetensors'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True)
    words = [line.split() for line in run.stdout.splitlines()]
    return {name: set(heavy) for name, *heavy in words}


@pytest.mark.parametrize("module", ["adbeam.config", "adbeam.cli"])
def test_settings_and_the_command_line_load_neither_torch_nor_ray_nor_pandas(module: str) -> None:
    assert loaded_by([module]) == {module: set()}


def test_the_status_and_the_tasks_of_ray_data_load_no_torch() -> None:
    loaded = loaded_by(["adbeam.status", *TASKS])
    assert [name for name, heavy in loaded.items() if "torch" in heavy] == []
    assert len(loaded) == 1 + len(TASKS)


def test_names_of_a_room_come_from_their_modules_when_asked_for() -> None:
    code = (
        "import sys, adbeam.decoding, adbeam.beams\n"
        "assert 'torch' not in sys.modules\n"
        "from adbeam.beams import *\n"
        "from adbeam.decoding import *\n"
        "assert Trie is sys.modules['adbeam.decoding.trie.trie'].Trie and Controller\n"
        "adbeam.decoding.Nothing\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.splitlines()[-1] == "AttributeError: module 'adbeam.decoding' has no attribute 'Nothing'"
