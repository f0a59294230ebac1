"""Layout, configuration, bundle and published folders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.bundles import write_random_bundle

from adbeam import artifacts
from adbeam.bundle import load_bundle, resolve
from adbeam.config import SIZES, Config
from adbeam.errors import UserError

ROOT = Path(__file__).parents[3]


def test_the_standard_librarys_platform_module_stays():
    code = "import platform; print(platform.system())"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip()
    assert not (ROOT / "platform" / "__init__.py").exists()


@pytest.mark.parametrize("size", list(SIZES))
def test_every_size_is_a_whole_configuration(size: str):
    config = Config.parse({"size": size})
    assert len(config.decoding.widths) == config.model.levels
    assert config.model.width == SIZES[size]["model"]["width"]


def test_yaml_wins_over_the_size(tmp_path: Path):
    (tmp_path / "job.yaml").write_text("size: tiny\nmodel: {width: 48}\n")
    config = Config.load(tmp_path / "job.yaml", {"training.max_steps": 7})
    assert (config.model.width, config.model.layers, config.training.max_steps) == (48, 6, 7)


def test_an_unknown_key_names_the_nearest_one():
    with pytest.raises(UserError, match=r"unknown key 'training\.learning_rat'; did you mean 'learning_rate'"):
        Config.parse({"training": {"learning_rat": 1}})


def test_a_wrong_value_names_field_and_value():
    with pytest.raises(UserError, match=r"model\.width.*-3"):
        Config.parse({"model": {"width": -3}})


def test_command_line_says_what_is_wrong_and_exits_with_2():
    command = [sys.executable, "-m", "adbeam.cli", "config", "show", "-s", "sise=tiny"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "did you mean 'size'" in answer.stderr and "Traceback" not in answer.stderr


def test_a_folder_is_whole_or_absent(tmp_path: Path):
    target = tmp_path / "made"
    with pytest.raises(RuntimeError), artifacts.publish(target, {"step": "x"}) as staging:
        (staging / "half.txt").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with artifacts.publish(target, {"step": "x"}) as staging:
        (staging / "whole.txt").write_text("whole")
    assert artifacts.is_current(target, {"step": "x"}) and not artifacts.is_current(target, {"step": "y"})
    (target / "whole.txt").write_text("other")
    with pytest.raises(UserError, match=r"whole\.txt differs"):
        artifacts.read_manifest(target)


def test_a_damaged_bundle_is_refused_with_the_files_name(tmp_path: Path):
    write_random_bundle(tmp_path)
    folder = resolve(tmp_path)
    assert load_bundle(tmp_path).version == folder.name
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors differs"):
        load_bundle(tmp_path)


def test_a_bundle_of_another_format_is_refused(tmp_path: Path):
    write_random_bundle(tmp_path)
    manifest = resolve(tmp_path) / artifacts.MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        load_bundle(tmp_path)
