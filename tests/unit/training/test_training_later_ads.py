"""Targets of further prediction heads: the next ads of the same user, in the order he came to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.support.training.samples import training_config, write_training_sample

from adbeam.config import Config
from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.logs.requests import AD, UserSequence, read_sequences, requests_in
from adbeam.model.config import GprConfig
from adbeam.objectives.ecpm import EcpmBuckets
from adbeam.objectives.weights import mixed_weights
from adbeam.records import ACTIONS, SPLITS
from adbeam.training.data.batches import BatchMaker
from adbeam.training.data.row_builder import RowBuilder
from adbeam.training.data.rows import RowFormat

MIXTURE = (0.4, 0.3, 0.2, 0.1)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("later")
    write_training_sample(folder)
    plain = training_config(folder)
    model = plain.model.model_copy(update={"decoder": "gpr", "gpr": GprConfig(head_weights=MIXTURE)})
    return plain.model_copy(update={"model": model})


def sequences_of(config: Config) -> list[UserSequence]:
    shards = sorted((Path(config.work_dir) / "prepared" / "sequences").glob("*.parquet"))
    return [sequence for shard in shards for sequence in read_sequences(shard)]


def builder(config: Config) -> RowBuilder:
    return RowBuilder(
        sids=SidTable.read(Path(config.work_dir) / "tokens" / "sids.parquet", 3),
        spec=FeatureSpec.of(config.model),
        format=RowFormat.of(config.model, 8),
        target_action="conversion",
        weights=config.training.behavior_weights,
        seed=0,
    )


def later_by_loop(sequence: UserSequence, request: str, now_ms: int, sids: SidTable) -> list[list[int]]:
    code_HT, known_H = sids.lookup(sequence.item_H)
    found = []
    for h in range(len(sequence)):
        wanted = sequence.kind_H[h] == AD and sequence.action_H[h] == ACTIONS.index("conversion") and known_H[h]
        trained = sequence.split_H[h] == SPLITS.index("train")
        if wanted and trained and sequence.request_H[h] != request and sequence.timestamp_H[h] > now_ms:
            found.append(code_HT[h].tolist())
    return found[: len(MIXTURE) - 1]


def test_heads_learn_the_next_ads_of_the_training_split(config: Config) -> None:
    make, taught = builder(config), 0
    for sequence in sequences_of(config):
        for row, request in zip(make.rows(sequence), requests_in(sequence, "train"), strict=True):
            (place,) = (row["head_M"] > 0).nonzero()
            own = int((row["weight_M"] > 0).sum()) - len(place)
            expected = later_by_loop(sequence, request.request_id, request.now_ms, make.sids)
            assert row["target_MT"][place].tolist() == expected
            assert row["head_M"][place].tolist() == list(range(1, 1 + len(expected)))
            assert place.tolist() == list(range(own, own + len(expected)))
            taught += len(expected)
    assert taught > 100


def test_own_targets_and_contexts_are_those_of_one_head(config: Config) -> None:
    one = config.model_copy(update={"model": config.model.model_copy(update={"gpr": GprConfig()})})
    sequence = max(sequences_of(config), key=len)
    for several, alone in zip(builder(config).rows(sequence), builder(one).rows(sequence), strict=True):
        assert "head_M" not in (alone.dtype.names or ())
        own = int((alone["weight_M"] > 0).sum())
        assert np.array_equal(several["target_MT"][:own], alone["target_MT"][:own])
        assert np.array_equal(several["code_ST"], alone["code_ST"]) and not several["head_M"][:own].any()


def test_a_batch_names_heads_and_mixes_their_means(config: Config) -> None:
    format = RowFormat.of(config.model, 8)
    rows = np.concatenate([builder(config).rows(sequence) for sequence in sequences_of(config)[:20]])
    table: pa.Table = format.to_table(rows)
    batch = BatchMaker(format, EcpmBuckets.fit(np.ones(3), 8), np.zeros(0), mixture=MIXTURE).batch(table)
    assert batch.head_BPM is not None and batch.head_BPM.shape == batch.weight_BPM.shape
    real = batch.weight_BPM > 0
    assert batch.head_BPM[real].max() == 3


def test_the_mean_over_targets_is_the_mixture_of_the_heads_means() -> None:
    loss = np.array([[5.0, 7.0, 2.0, 4.0, 9.0], [3.0, 1.0, 8.0, 0.0, 0.0]])
    head = np.array([[0, 0, 1, 2, 3], [0, 2, 0, 0, 0]])
    weight = np.array([[1.0, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    mean = (loss * mixed_weights(weight, head, MIXTURE)).sum(1) / (weight > 0).sum(1)
    np.testing.assert_allclose(mean, [0.4 * 6 + 0.3 * 2 + 0.2 * 4 + 0.1 * 9, (0.4 * 3 + 0.2 * 1) / 0.6], rtol=1e-6)
