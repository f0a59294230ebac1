"""Aggregation: laws of the monoid, batch against scan, what may be read of a moment, and the step `represent`."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.support.foundation.samples import foundation_config
from tests.support.samples import DAY_MS, START_MS, write_sample_log

from adbeam import artifacts
from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.foundation import foundation, represent
from adbeam.foundation.aggregate import Decay, EventDecay, State, TimeDecay, normalised, scan
from adbeam.foundation.scoring import Foundation
from adbeam.foundation.tables import Representations, StateTable, states_table
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.workdir import WorkDir

WEEK_MS = 7 * DAY_MS
BY_TIME, BY_EVENT = TimeDecay(WEEK_MS), EventDecay(0.99)
CUT_MS = START_MS + 60 * DAY_MS
LOCAL = {"workers": 0}

events = st.builds(
    lambda values, time: State.of(np.array(values), time),
    st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    st.integers(0, 400 * DAY_MS),
)


def close(left: State, right: State) -> None:
    np.testing.assert_allclose(left.mean_E, right.mean_E, rtol=1e-5, atol=1e-5)
    assert left.weight == pytest.approx(right.weight, rel=1e-9)
    assert (left.time_ms, left.count) == (right.time_ms, right.count)


@pytest.mark.parametrize("decay", [BY_TIME, BY_EVENT], ids=["time", "event"])
@settings(deadline=None)
@given(a=events, b=events, c=events)
def test_merging_is_associative_and_nothing_changes_nothing(decay: Decay, a: State, b: State, c: State) -> None:
    close(decay.merge(decay.merge(a, b), c), decay.merge(a, decay.merge(b, c)))
    close(decay.merge(a, State.empty(3)), a)
    close(decay.merge(State.empty(3), a), a)


@settings(deadline=None)
@given(a=events, b=events)
def test_by_time_the_order_does_not_count(a: State, b: State) -> None:
    close(BY_TIME.merge(a, b), BY_TIME.merge(b, a))


def test_by_event_n_equal_events_are_those_of_the_formula() -> None:
    c, n = np.array([1.0, -2.0, 3.0]), 50
    *_, last = scan(BY_EVENT, np.tile(c, (n, 1)), np.arange(n))
    np.testing.assert_allclose(last.mean_E * last.weight, c * (1 - 0.99**n) / 0.01)


def test_by_time_equal_events_have_their_mean_and_old_ones_count_less() -> None:
    c = np.array([1.0, -2.0, 3.0])
    *_, last = scan(BY_TIME, np.tile(c, (5, 1)), np.zeros(5, np.int64))
    np.testing.assert_allclose(last.mean_E, c)
    assert last.weight == 5
    *_, last = scan(BY_TIME, np.array([[0.0], [3.0]]), np.array([0, WEEK_MS]))
    assert last.mean_E[0] == pytest.approx(2.0) and last.weight == pytest.approx(1.5)


@pytest.mark.parametrize("decay", [BY_TIME, BY_EVENT], ids=["time", "event"])
def test_a_scan_is_the_sum_over_all_events_at_once(decay: Decay) -> None:
    rng = np.random.default_rng(0)
    vector_RE, time_R = rng.normal(size=(200, 8)), np.sort(rng.integers(0, 90 * DAY_MS, 200))
    *_, last = scan(decay, vector_RE, time_R)
    age_R = (time_R[-1] - time_R) / WEEK_MS if decay is BY_TIME else np.arange(199, -1, -1)
    weight_R = (0.5 if decay is BY_TIME else 0.99) ** age_R
    batch_E = (weight_R[:, None] * vector_RE).sum(0) / weight_R.sum()
    np.testing.assert_allclose(last.mean_E, batch_E, atol=1e-5)
    halves = [list(scan(decay, vector_RE[part], time_R[part]))[-1] for part in (slice(0, 90), slice(90, 200))]
    close(decay.merge(*halves), last)


def test_a_state_of_years_ago_is_still_known() -> None:
    *_, last = scan(BY_TIME, np.array([[2.0], [4.0]]), np.array([0, 40_000 * DAY_MS]))
    assert last.mean_E[0] == pytest.approx(4.0)
    old = BY_TIME.merge(State(np.array([2.0]), 1e-30, 0, 1), State(np.array([2.0]), 1e-30, 10**6 * DAY_MS, 1))
    assert old.mean_E[0] == pytest.approx(2.0) and old.weight > 0


def test_as_of_reads_what_was_strictly_before_and_a_snapshot_the_last() -> None:
    mean_RE = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 1.0]])
    table = StateTable.of(states_table(["u", "u", "v"], np.array([10, 20, 15]), np.ones(3), mean_RE), BY_TIME)
    ids, now_B = ["u", "u", "u", "v", "w", None], np.array([10, 11, 21, 99, 99, 99])
    vector_BE, weight_B, known_B = table.look_up(ids, now_B)
    assert known_B.tolist() == [False, True, True, True, False, False]
    np.testing.assert_array_equal(vector_BE[1:3], normalised(mean_RE[:2]))
    assert not vector_BE[~known_B].any() and not weight_B[~known_B].any()
    vector_BE, _, known_B = table.look_up(["u"], np.array([0]), "snapshot")
    assert known_B.all() and np.array_equal(vector_BE, normalised(mean_RE[1:2]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = foundation_config(tmp_path_factory.mktemp("represent"), represent=LOCAL)
    foundation(config)
    return config


def changed(config: Config, folder: Path) -> Config:
    """The same foundation over a log whose later events are of other items."""
    sample = write_sample_log(folder / "sample", users=40, items=60, visits=16)
    table = pq.read_table(sample.events)
    item = table["item_id"].to_pylist()
    late = pc.greater(table["timestamp"].cast(pa.int64()), CUT_MS).to_pylist()
    other = [f"item{(int(one.removeprefix('item')) + 21) % 60}" if is_late else one
             for one, is_late in zip(item, late, strict=True)]  # fmt: skip
    place = table.schema.get_field_index("item_id")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(other)), sample.events)
    run(SimpleNamespace(work_dir=folder, logs=LogsConfig.parse(sample.settings)), in_process=True)
    shutil.copytree(WorkDir(config.work_dir).foundation, WorkDir(folder).foundation)
    return config.model_copy(update={"work_dir": folder})


def test_later_events_change_nothing_as_of_a_moment_and_change_the_snapshot(
    trained: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = Representations.open(represent(trained))
    after = Representations.open(represent(changed(trained, tmp_path)))
    for name in ("users", "items"):
        one, other = getattr(before, name), getattr(after, name)
        ids = [id for id in one.ids if id in set(other.ids)]
        now_B = np.full(len(ids), CUT_MS // DAY_MS * DAY_MS)
        for mine, theirs in zip(one.look_up(ids, now_B), other.look_up(ids, now_B), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert one.look_up(ids, now_B)[2].sum() > 20
        last = [table.look_up(ids, now_B, "snapshot")[0] for table in (one, other)]
        assert np.abs(last[0] - last[1]).max() > 0.01, name
    Representations.open(WorkDir(trained.work_dir).representations, "snapshot")
    assert "its future are in them" in caplog.text


def test_cold_ads_have_a_representation_from_their_content(trained: Config) -> None:
    found = Representations.open(represent(trained))
    work_dir = WorkDir(trained.work_dir)
    model, catalogue = Foundation.open(work_dir.foundation), PreparedLog.open(work_dir.prepared).catalogue()
    assert len(found.content.ids) == 60 and found.version == model.version
    row = catalogue.slice(0, 1)
    names = [row.set_column(0, "item_id", pa.array([name])) for name in ("new-a", "new-b")]
    new = [pc.list_flatten(model.content(one)["mean"]).to_numpy() for one in names]
    np.testing.assert_array_equal(new[0], new[1], err_msg="ids that were never seen say nothing")
    assert np.abs(new[0] - pc.list_flatten(model.content(row)["mean"]).to_numpy()).max() > 0


def test_the_step_is_done_once_and_faults_are_named(trained: Config) -> None:
    folder = represent(trained)
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert represent(trained) == folder and (folder / "manifest.json").stat().st_mtime_ns == before
    deeper = trained.represent.model_copy(update={"layer": 9})
    with pytest.raises(UserError, match=r"represent\.layer: .*layers 0 to 5"):
        represent(trained.model_copy(update={"represent": deeper}))


def test_what_is_no_number_is_counted_and_refused_where_nothing_else_is_left(trained: Config, tmp_path: Path) -> None:
    shutil.copytree(WorkDir(trained.work_dir).prepared, WorkDir(tmp_path).prepared)
    with artifacts.publish(WorkDir(tmp_path).foundation, {"fingerprint": "spoilt"}) as staging:
        for path in WorkDir(trained.work_dir).foundation.iterdir():
            if path.name != artifacts.MANIFEST:
                shutil.copy2(path, staging / path.name)
        weights = load_file(staging / "model.safetensors")
        weights["mix.ads.layers.1.bias"][0] = float("nan")
        save_file(weights, staging / "model.safetensors")
    with pytest.raises(UserError, match=r"represent\.actions.*were not finite"):
        represent(trained.model_copy(update={"work_dir": tmp_path}))
    assert not WorkDir(tmp_path).representations.exists()
