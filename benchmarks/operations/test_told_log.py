"""The files and settings of the second walk: prepared whole, served by a valid configuration, answers judged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from adbeam.config import Config
from adbeam.logs.pipeline import run
from adbeam.serving.config import ServingConfig
from benchmarks.operations.own_log import ROOT, page
from benchmarks.operations.told_log import check_answer, write_files, write_settings


def test_the_walk_is_prepared_and_its_answers_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk, source = page().more, ROOT / "serving"
    rules = write_files(tmp_path, walk, visits=600)
    shutil.copytree(source, tmp_path / source.name)
    (tmp_path / "jobs").mkdir()
    write_settings(tmp_path, walk)
    monkeypatch.chdir(tmp_path)
    prepared = run(Config.load(Path("jobs/told.yaml"), {}), in_process=True)
    assert prepared.account["quarantined"] == 0 and prepared.account["catalogue"]["quarantined"] == 0
    assert sum(bool(text) for text in rules.values()) > 50
    served = yaml.safe_load((tmp_path / source.name / "told.yaml").read_text())["applications"][0]["args"]
    assert set(ServingConfig.resolve(served).features) == {"age_band", "device", "interests", "region"}
    some = {"A100": '{"region":{"in":["north"]}}', "X101": '{"region":{"in":["south"]}}', "C310": ""}
    check_answer("ads: A100 and C310", walk, some)
    for answer in ("A100, X101", "C310", "none"):
        with pytest.raises(SystemExit, match="shown"):
            check_answer(answer, walk, some)
