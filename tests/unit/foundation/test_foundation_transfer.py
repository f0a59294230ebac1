"""Representations in the reward model: adapters, what is missing, and a model without them that is what it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.foundation.samples import foundation_config

from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.foundation import foundation, represent
from adbeam.foundation.config import TransferConfig
from adbeam.foundation.reader import RepresentationReader
from adbeam.logs.prepared import PreparedLog
from adbeam.rewards import reward
from adbeam.rewards.config import RewardConfig
from adbeam.rewards.features import Past
from adbeam.rewards.model import RewardNet
from adbeam.rewards.scoring import Question, RewardModel
from adbeam.workdir import WorkDir

REWARDS: dict[str, Any] = {
    "embedding_width": 4, "hidden": (16,), "user_buckets": 32, "item_buckets": 128, "attribute_buckets": 32,
    "epochs": 1, "batch_exposures": 64, "workers": 0,
}  # fmt: skip
LOCAL = {"represent": {"workers": 0}}
LATE_MS = 1_700_000_000_000


def net_of(kind: str | None) -> RewardNet:
    torch.manual_seed(0)
    transfer = None if kind is None else TransferConfig.model_validate({"adapter": kind})
    return RewardNet((4, 5), 3, 2, (8,), transfer, () if kind is None else (6,))


def told(known: list[float]) -> torch.Tensor:
    torch.manual_seed(1)
    told_BR = torch.randn(len(known), 8)
    told_BR[:, 7] = torch.tensor(known)
    told_BR[:, :7] *= told_BR[:, 7:]
    return told_BR


INPUTS = torch.tensor([[1, 2], [3, 4]]), torch.ones(2, 3)


def test_an_open_gate_is_the_model_without_representations() -> None:
    plain, gated = net_of(None), net_of("gate")
    gated.load_state_dict({**gated.state_dict(), **plain.state_dict()})
    assert gated.adapter is not None
    weight, bias = list(gated.adapter.project.parameters())
    torch.nn.init.zeros_(weight)
    torch.nn.init.constant_(bias, 100.0)
    for mine, theirs in zip(gated(*INPUTS, told([1.0, 0.0])), plain(*INPUTS), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("kind", ["linear", "concat", "gate", "mlp"])
def test_what_is_known_counts_and_what_is_missing_is_learnt(kind: str) -> None:
    net = net_of(kind)
    assert net.adapter is not None
    torch.nn.init.normal_(list(net.adapter.project.parameters())[-2])
    known, missing = told([1.0, 1.0]), told([0.0, 0.0])
    click, conversion = net(*INPUTS, known)
    assert not torch.allclose(click, net(*INPUTS, missing)[0])
    torch.autograd.backward((net(*INPUTS, missing)[0].sum(), net(*INPUTS, missing)[1].sum()))
    learnt = net.adapter.missing[0].grad
    assert learnt is not None and learnt.abs().sum() > 0
    net.zero_grad()
    torch.autograd.backward((click.sum(), conversion.sum()))
    learnt = net.adapter.missing[0].grad
    assert learnt is None or not learnt.any(), "where it is known, nothing is learnt of what is missing"


@pytest.fixture(scope="module")
def represented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = foundation_config(tmp_path_factory.mktemp("transfer"), **LOCAL)
    foundation(config)
    represent(config)
    return Path(config.work_dir)


def config_of(work_dir: Path, representation: dict[str, Any] | None) -> Config:
    rewards = REWARDS if representation is None else {**REWARDS, "representation": representation}
    return foundation_config(work_dir, rewards=rewards, **LOCAL)


def judged(work_dir: Path, user: str | None, now_ms: int = LATE_MS) -> np.ndarray:
    catalogue = PreparedLog.open(WorkDir(work_dir).prepared).catalogue()
    model = RewardModel.open(WorkDir(work_dir).reward, catalogue)
    ads = np.flatnonzero(np.array(catalogue["kind"].to_pylist()) == "ad")[:10]
    none = np.zeros(0, np.int64)
    return model.judge([Question(Past(none, none, none), now_ms, "display", user, ads)])[0]


@pytest.mark.parametrize(
    "representation",
    [{"adapter": "gate"}, {"adapter": "linear", "sources": ["item"]}, {"adapter": "concat", "sources": ["content"]},
     {"adapter": "mlp", "sources": ["user", "item", "content"]}],
    ids=["gate", "linear", "concat", "mlp"],
)  # fmt: skip
def test_a_reward_model_learns_from_representations(represented: Path, representation: dict[str, Any]) -> None:
    config = config_of(represented, representation)
    folder = reward(config)
    report = json.loads((folder / "report.json").read_text())
    assert np.isfinite(report["converted"]["auc"])
    stored = json.loads((folder / "reward.json").read_text())
    assert len(stored["representation"]["blocks"]) == len(representation.get("sources", ["user"]))
    assert np.isfinite(judged(represented, "user1")).all()
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert reward(config) == folder and (folder / "manifest.json").stat().st_mtime_ns == before


def test_a_user_without_events_and_one_before_his_first_are_missing(represented: Path) -> None:
    reader = RepresentationReader.open(WorkDir(represented).representations, TransferConfig())
    rows = [reader.read(user, now, ["item0", "item1"]) for user, now in (("user1", LATE_MS), ("user1", 0), (None, 9))]
    assert [row[:, -1].tolist() for row in rows] == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert rows[0][:, :-2].any() and not rows[1].any() and rows[0].shape == (2, reader.width)


def test_another_version_and_a_store_that_is_gone_count_as_missing(
    represented: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(represented, tmp_path / "work")
    work_dir = tmp_path / "work"
    reward(config_of(work_dir, {"adapter": "linear"}))
    known, nobody = judged(work_dir, "user1"), judged(work_dir, "user1", 0)
    assert not np.allclose(known, nobody)
    stored = WorkDir(work_dir).reward / "reward.json"
    reader = RepresentationReader.of_model(
        WorkDir(work_dir).representations, TransferConfig(), json.loads(stored.read_text())["representation"]["blocks"],
        "another",
    )  # fmt: skip
    assert reader.tables is None and "learned from version another" in caplog.text
    assert not reader.read("user1", LATE_MS, ["item0"]).any()
    shutil.rmtree(WorkDir(work_dir).representations)
    assert np.isfinite(judged(work_dir, "user1")).all() and "count as missing" in caplog.text
    with pytest.raises(UserError, match="adbeam represent"):
        reward(config_of(work_dir, {"adapter": "mlp"}))


def test_without_representations_the_settings_and_the_folder_are_what_they_were(represented: Path) -> None:
    assert "representation" not in RewardConfig().model_dump()
    folder = reward(config_of(represented, None))
    stored = json.loads((folder / "reward.json").read_text())
    assert set(stored) == {"config", "calibration"} and "representation" not in stored["config"]
    assert not [name for name in net_of(None).state_dict() if name.startswith("adapter")]
