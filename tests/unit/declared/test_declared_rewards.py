"""The reward model hears what a request told, and orders by it; the online loop refuses what its logs do not hold."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.support.declared.told_log import told_config, write_told_log

from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.rewards.config import RewardConfig
from adbeam.rewards.features import Past, told_sizes
from adbeam.rewards.model import RewardNet
from adbeam.rewards.scoring import Question, RewardModel
from adbeam.rewards.trainer import reward

SMALL = {"users": 24, "items": 40, "visits": 16}
FEATURES: dict[str, Any] = {
    "mood": {"kind": "category", "model": True},
    "tags": {"kind": "list", "model": True, "longest": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedLog, RewardModel]:
    """A log in which a request's mood says whether its ads convert, and the reward model of it."""
    folder = tmp_path_factory.mktemp("rewards")
    sample = write_told_log(folder / "log", {}, **SMALL)
    events = pq.read_table(sample.events)
    moods = ["buying" if action == "conversion" else "idle" for action in events["action"].to_pylist()]
    requests = [f"{mood}-{one}" for mood, one in zip(moods, events["request_id"].to_pylist(), strict=True)]
    events = events.set_column(events.schema.get_field_index("request_id"), "request_id", pa.array(requests))
    events = events.append_column("mood", pa.array(moods)).append_column("tags", pa.array([["a", "b"]] * len(events)))
    pq.write_table(events, sample.events)
    prepared = run(told_config(folder, sample, FEATURES), in_process=True)
    config = RewardConfig(workers=0, epochs=4, batch_exposures=64, embedding_width=4, hidden=(16,), learning_rate=0.02)
    made = reward(SimpleNamespace(work_dir=folder, seed=0, rewards=config))
    return prepared, RewardModel.open(made, prepared.catalogue())


def test_what_a_request_told_changes_what_an_ad_is_worth(model: tuple[PreparedLog, RewardModel]) -> None:
    prepared, rewards = model
    encoder = prepared.told()
    assert encoder is not None and rewards.told == told_sizes(encoder) == (4, 4, 0)
    codes = encoder.codes([{"mood": "buying", "tags": ("a", "b")}, {"mood": "idle", "tags": ("a", "b")}])
    none = np.zeros(0, np.int64)
    ads = np.flatnonzero(np.array(prepared.catalogue()["kind"].to_pylist()) == "ad")[:10]
    past = Past(none, none, none)
    buying, idle, unknown = rewards.judge(
        [Question(past, 1_600_000_000_000, "display", None, ads, told) for told in (*codes, ())]
    )
    assert (buying > 2 * idle).all()
    assert np.isfinite(unknown).all()


def test_further_words_of_a_list_share_the_embeddings_of_the_first() -> None:
    net = RewardNet((5, 4, 0, 3), 2, 4, (8,))
    assert net.start_C.tolist() == [0, 5, 5, 9] and len(net.embedding.weight) == 12
    click, _ = net(torch.tensor([[4, 3, 3, 2]]), torch.zeros(1, 2))
    assert torch.isfinite(click).all()


def test_a_model_without_declared_features_is_stored_as_before(tmp_path: Path) -> None:
    sample = write_told_log(tmp_path / "log", {}, **SMALL)
    run(told_config(tmp_path, sample, {}), in_process=True)
    config = RewardConfig(workers=0, epochs=1, embedding_width=4, hidden=(8,))
    folder = reward(SimpleNamespace(work_dir=tmp_path, seed=0, rewards=config))
    assert set(json.loads((folder / "reward.json").read_text(encoding="utf-8"))) == {"config", "calibration"}


def _events(folder: Path) -> pa.Table:
    return pq.read_table(write_told_log(folder / "log", {}, **SMALL).events)
