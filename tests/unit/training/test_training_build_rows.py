"""Training rows: contexts of the past only, the training split only, targets that have a SID, weights as configured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.support.training.samples import training_config, write_training_sample

from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.features.batch import TrainBatch
from adbeam.features.contexts import Contexts, Moment, build_contexts
from adbeam.features.history import History
from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.logs.requests import AD, Request, UserSequence, read_sequences, requests_in
from adbeam.model.lazyar import LazyAR
from adbeam.objectives.ecpm import EcpmBuckets
from adbeam.objectives.weights import user_weight
from adbeam.training.data import row_builder
from adbeam.training.data.batches import BatchMaker
from adbeam.training.data.build_rows import RowStore, build_rows
from adbeam.training.data.row_builder import RowBuilder
from adbeam.training.data.rows import RowFormat
from adbeam.training.data.targets import JoinedEvents, Targets
from adbeam.workdir import WorkDir


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ingest")
    write_training_sample(folder)
    return folder


@pytest.fixture(scope="module")
def config(work_dir: Path) -> Config:
    return training_config(work_dir)


@pytest.fixture(scope="module")
def sequences(work_dir: Path) -> list[UserSequence]:
    shards = sorted((work_dir / "prepared" / "sequences").glob("*.parquet"))
    return [sequence for shard in shards for sequence in read_sequences(shard)]


def builder(config: Config, targets: int = 8) -> RowBuilder:
    return RowBuilder(
        sids=SidTable.read(Path(config.work_dir) / "tokens" / "sids.parquet", 3),
        spec=FeatureSpec.of(config.model),
        format=RowFormat.of(config.model, targets),
        target_action="conversion",
        weights=config.training.behavior_weights,
        seed=0,
    )


def test_one_row_a_training_request_and_nothing_of_the_later_splits(
    config: Config, sequences: list[UserSequence]
) -> None:
    store = build_rows(config, use_ray=False)
    requests = [request for sequence in sequences for request in requests_in(sequence, "train")]
    assert store.files.rows == len(requests)
    assert store.scenes == tuple(sorted({request.scene for request in requests}))
    later = [request for sequence in sequences for request in requests_in(sequence, "test")]
    assert later, "the sample needs test requests for this to mean anything"


def test_a_context_does_not_change_when_the_future_does(config: Config, sequences: list[UserSequence]) -> None:
    sequence = max(sequences, key=lambda s: len(s.item_H))
    request = requests_in(sequence, "train")[-1]
    past = {name: value.copy() for name, value in vars(sequence).items() if isinstance(value, np.ndarray)}
    past["kind_H"][request.end :] = 1 - past["kind_H"][request.end :]
    past["value_H"][request.end :] += 100.0
    past["item_H"][request.end :] = past["item_H"][request.end :][::-1]
    changed = UserSequence(sequence.user_id, **past)
    place = len(requests_in(sequence, "train")) - 1
    for name in ("code_ST", "feature_SC", "static_F"):
        rows, others = builder(config).rows(sequence), builder(config).rows(changed)
        np.testing.assert_array_equal(rows[name][place], others[name][place])


def test_a_row_holds_the_context_that_serving_would_build(config: Config, sequences: list[UserSequence]) -> None:
    sequence = sequences[0]
    request: Request = requests_in(sequence, "train")[-1]
    make = builder(config)
    codes, known = make.sids.lookup(sequence.item_H)
    assert known.all()
    history = History(codes, sequence.timestamp_H, sequence.action_H, sequence.kind_H, sequence.value_H)
    moment = Moment(request.now_ms, request.scene, sequence.user_id)
    expected = build_contexts([history], [moment], make.spec)
    row = make.rows(sequence)[-1]
    np.testing.assert_array_equal(row["code_ST"], expected.code_BST[0])
    np.testing.assert_array_equal(row["feature_SC"], expected.feature_BSC[0])
    np.testing.assert_array_equal(row["static_F"], expected.static_BF[0])


def test_targets_are_the_request_s_items_with_their_weights(config: Config, sequences: list[UserSequence]) -> None:
    sequence = sequences[1]
    make = builder(config)
    codes, _ = make.sids.lookup(sequence.item_H)
    for request, row in zip(requests_in(sequence, "train"), make.rows(sequence), strict=True):
        count = len(request.target_positions)
        np.testing.assert_array_equal(row["target_MT"][:count], codes[request.target_positions])
        weights = np.where(sequence.kind_H[request.target_positions] == AD, 2.0, 1.0)
        np.testing.assert_array_equal(row["weight_M"], np.pad(weights, (0, 8 - count)))


def test_too_many_targets_keep_the_ads_first(config: Config, sequences: list[UserSequence]) -> None:
    for sequence in sequences:
        for request, row in zip(requests_in(sequence, "train"), builder(config, targets=1).rows(sequence), strict=True):
            has_ad = (sequence.kind_H[request.target_positions] == AD).any()
            assert row["weight_M"][0] == (2.0 if has_ad else 1.0)


def test_users_taken_together_get_the_rows_that_each_gets_alone(
    config: Config, sequences: list[UserSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = builder(config, targets=1)
    alone = [make.rows(sequence) for sequence in sequences]
    for events in (1, 100, 1_000_000):
        monkeypatch.setattr(row_builder, "BATCH_EVENTS", events)
        together = list(make.each(sequences))
        assert [part.tobytes() for part in together] == [part.tobytes() for part in alone]


def test_targets_are_those_of_the_requests_in_a_sequence(config: Config, sequences: list[UserSequence]) -> None:
    make = builder(config, targets=2)
    targets = Targets.of(JoinedEvents.of(sequences, make.sids), "conversion", 2, seed=0)
    expected = []
    start = 0
    for user, sequence in enumerate(sequences):
        for request in requests_in(sequence, "train"):
            expected.append((user, request.now_ms, request.scene, expected_targets(request, 2) + start))
        start += len(sequence)
    found = zip(targets.user_K.tolist(), targets.now_ms_K.tolist(), targets.scene_K, strict=True)
    assert list(found) == [(user, now_ms, scene) for user, now_ms, scene, _ in expected]
    for number, (*_, places) in enumerate(expected):
        np.testing.assert_array_equal(targets.event_n[targets.request_n == number], places)


def expected_targets(request: Request, most: int) -> np.ndarray:
    """One request at a time, with numpy's own generator."""
    first = {request.sequence.item_H[place]: place for place in request.target_positions[::-1].tolist()}
    places = np.sort(list(first.values()))
    if len(places) <= most:
        return places
    draw = np.random.default_rng((0, request.end, len(places))).random(len(places))
    return places[np.lexsort((draw, request.sequence.kind_H[places] != AD))[:most]]


def test_an_item_without_a_sid_is_neither_context_nor_target(config: Config, sequences: list[UserSequence]) -> None:
    make = builder(config)
    sequence = sequences[0]
    request = requests_in(sequence, "train")[-1]
    unknown = str(sequence.item_H[request.target_positions[0]])
    items = np.unique(np.concatenate([s.item_H for s in sequences]).astype(str))
    items = items[items != unknown]
    codes, _ = make.sids.lookup(items.astype(object))
    fewer = RowBuilder(SidTable.of(items.astype(object), codes), make.spec, make.format, "conversion", make.weights, 0)
    count = int((fewer.rows(sequence)[-1]["weight_M"] > 0).sum()) if len(request.target_positions) > 1 else 0
    assert count == len(set(request.targets)) - 1


def test_building_again_does_nothing_and_a_changed_setting_builds_anew(config: Config, work_dir: Path) -> None:
    build_rows(config, use_ray=False)
    before = (WorkDir(work_dir).training_rows / "manifest.json").stat().st_mtime_ns
    build_rows(config, use_ray=False)
    assert (WorkDir(work_dir).training_rows / "manifest.json").stat().st_mtime_ns == before
    store = build_rows(training_config(work_dir, {"targets_per_request": 2}), use_ray=False)
    assert store.format.targets == 2


def test_an_altered_shard_is_refused(config: Config, work_dir: Path) -> None:
    store = build_rows(config, use_ray=False)
    path = WorkDir(work_dir).training_rows / store.files.names[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=store.files.names[0]):
        RowStore.open(WorkDir(work_dir).training_rows)


def test_sids_of_another_length_are_refused(work_dir: Path) -> None:
    with pytest.raises(UserError, match=r"model\.codebooks"):
        SidTable.read(work_dir / "tokens" / "sids.parquet", levels=4)


def test_unknown_items_are_not_found() -> None:
    table = SidTable.of(np.array(["b", "a"], dtype=object), np.array([[1, 2], [3, 4]]))
    codes, known = table.lookup(np.array(["a", "zz", "b"], dtype=object))
    assert known.tolist() == [True, False, True]
    assert codes[[0, 2]].tolist() == [[3, 4], [1, 2]]


def test_a_batch_cuts_empty_targets_and_weighs_users(config: Config) -> None:
    row_format = RowFormat.of(config.model, targets=4)
    rows = np.zeros(2, dtype=row_format.dtype)
    rows["weight_M"][:, :2] = [[2.0, 1.0], [1.0, 0.0]]
    rows["value_M"][:, :2] = [[0.5, 3.0], [0.0, 0.0]]
    rows["user_value"] = [10.0, 30.0]
    users = np.array([10.0, 20.0, 30.0])
    maker = BatchMaker(row_format, EcpmBuckets(np.array([1.0]), np.array([0.5, 3.0])), users)
    batch = maker.batch(row_format.to_table(rows))
    weights = user_weight(users)
    assert batch.code_BPMT.shape == (2, 1, 2, 3)
    assert batch.bucket_BPM.tolist() == [[[0, 1]], [[-1, -1]]]
    np.testing.assert_allclose(batch.weight_BPM[:, 0], [[2 * weights[0], weights[0]], [weights[2], 0.0]], rtol=1e-6)


def test_parts_of_a_batch_are_the_batch(config: Config) -> None:
    row_format = RowFormat.of(config.model, targets=2)
    rows = np.zeros(7, dtype=row_format.dtype)
    rows["static_F"][:, 0] = np.arange(7)
    rows["weight_M"][:, 0], rows["weight_M"][[0, 3, 6], 1] = 1.0, 1.0
    maker = BatchMaker(row_format, EcpmBuckets.fit(np.ones(3), 8), np.zeros(0))
    parts = list(maker.parts(pa.concat_tables([row_format.to_table(rows)]), 3))
    assert [part.context.size for part in parts] == [2, 3, 2]
    assert [n for part in parts for n in part.context.static_BF[:, 0].tolist()] == [1, 2, 4, 5, 0, 3, 6]
    assert [part.weight_BPM.shape[2] for part in parts] == [1, 2, 2]


def test_places_without_a_token_are_left_out(config: Config) -> None:
    row_format = RowFormat.of(config.model, targets=1)
    rows = np.zeros(2, dtype=row_format.dtype)
    rows["code_ST"], rows["weight_M"] = -1, 1.0
    rows["code_ST"][0, [1, 2]], rows["code_ST"][1, 5] = 3, 4
    batch = BatchMaker(row_format, EcpmBuckets.fit(np.ones(3), 8), np.zeros(0)).batch(row_format.to_table(rows))
    assert batch.context.mask_BS.tolist() == [[True, True, True, False], [True, False, False, True]]
    assert batch.context.code_BST[:, :, 0].tolist() == [[-1, 3, 3, -1], [-1, -1, -1, 4]]
    assert batch.visible_BP.tolist() == [[4], [4]]


def test_a_batch_without_empty_places_is_read_as_the_whole_one(config: Config) -> None:
    """Frequent items keep their pathway where newest events are few."""
    row_format = RowFormat.of(config.model, targets=1)
    spec = FeatureSpec.of(config.model)
    rows = np.zeros(3, dtype=row_format.dtype)
    rows["code_ST"], rows["weight_M"] = -1, 1.0
    rows["code_ST"][:, 1:3], rows["code_ST"][:, 1 + spec.short_length : 4 + spec.short_length] = 3, 5
    rows["feature_SC"][:, 1:, 0] = np.where(np.arange(1, spec.context_length) <= spec.short_length, 1, 2)
    batch = BatchMaker(row_format, EcpmBuckets.fit(np.ones(3), 8), np.zeros(0)).batch(row_format.to_table(rows))
    assert batch.context.mask_BS.shape == (3, 6) and batch.context.short_places == 2
    torch.manual_seed(0)
    model = LazyAR(config.model).eval()
    row = row_format.from_table(row_format.to_table(rows))
    whole = Contexts(row["static_F"], row["code_ST"], row["feature_SC"]).batch()
    everything = TrainBatch(
        whole, torch.full((3, 1), spec.context_length), batch.code_BPMT, batch.bucket_BPM, batch.weight_BPM
    )
    torch.testing.assert_close(model.train_losses(batch)["sid"], model.train_losses(everything)["sid"])
