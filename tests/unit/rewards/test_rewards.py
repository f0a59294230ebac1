"""The reward model: features without a look ahead, calibration, the loss, and a model that finds what converts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from tests.support.samples import write_sample_prepared

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import AD, UserSequence, read_sequences
from adbeam.records import ACTIONS, DAY_MS, ListSample
from adbeam.rewards import calibration
from adbeam.rewards.config import RewardConfig
from adbeam.rewards.exposures import COLUMNS, exposures_of, write_exposures
from adbeam.rewards.features import CATEGORICAL, DENSE, NEVER_DAYS, ItemTable, Past, pair_features
from adbeam.rewards.model import RewardNet, reward_loss
from adbeam.rewards.scoring import Calibration, Question, RewardModel
from adbeam.rewards.trainer import reward

SMALL = RewardConfig(
    embedding_width=4, hidden=(16,), user_buckets=32, item_buckets=128, attribute_buckets=32, epochs=8,
    batch_exposures=64, learning_rate=0.01, workers=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    write_sample_prepared(folder, users=60, items=60, visits=20)
    return folder


def _sequence(actions: list[str], items: list[str], requests: list[str], times: list[int]) -> UserSequence:
    n = len(actions)
    return UserSequence(
        "user", np.zeros(n, np.int8), np.array(requests, object), np.array(times), np.array(items, object),
        np.full(n, AD), np.full(n, "display", object), np.array([ACTIONS.index(action) for action in actions]),
        np.full(n, 2.0, np.float32),
    )  # fmt: skip


def _items() -> ItemTable:
    columns = {"category": ["x", "x", None], "brand": ["p", "q", "p"], "advertiser": ["m", "m", "n"]}
    catalogue = pa.table({"item_id": ["a", "b", "c"], **columns, "price": [2.0, 3.0, None]})
    return ItemTable.of(catalogue, SMALL)


def test_features_count_only_what_was_before() -> None:
    items = _items()
    actions = [ACTIONS.index(name) for name in ("conversion", "click", "impression", "conversion")]
    past = Past(np.array([0, 0, 1, 1]), np.array([10, 20, 25, 30]) * DAY_MS, np.array(actions))
    rows, now_ms = np.array([0, 1, 2]), 30 * DAY_MS
    _, dense = pair_features(past.before(now_ms), now_ms, "s", "user", rows, items, SMALL)

    def feature(name: str) -> np.ndarray:
        return np.expm1(dense[:, DENSE.index(name)])

    np.testing.assert_allclose(feature("item_seen_count"), [2, 1, 0], atol=1e-5)
    np.testing.assert_allclose(feature("item_acted_count"), [2, 0, 0], atol=1e-5)
    np.testing.assert_allclose(feature("item_converted_count"), [1, 0, 0], atol=1e-5)
    np.testing.assert_allclose(feature("category_seen_count"), [3, 3, 0], atol=1e-5)
    np.testing.assert_allclose(feature("advertiser_converted_count"), [1, 1, 0], atol=1e-5)
    ages = np.expm1(3 * dense[:, DENSE.index("item_acted_age")])
    np.testing.assert_allclose(ages, [10, NEVER_DAYS, NEVER_DAYS], rtol=1e-4)
    assert np.expm1(4 * dense[0, DENSE.index("log_acted")]) == pytest.approx(2)
    none, _ = pair_features(past.before(0), 0, "s", None, rows, items, SMALL)
    assert none[0, 0] == 0, "the unknown user has a bucket of its own"
    assert none[2, CATEGORICAL.index("category")] == 0, "so has an unknown category"


def test_one_exposure_an_ad_and_request_with_its_furthest_action() -> None:
    sequence = _sequence(
        ["impression", "click", "conversion", "impression", "conversion"], ["a", "a", "a", "b", "c"],
        ["r1", "r1", "r1", "r1", "r2"], [10, 20, 30, 40, 5000],
    )  # fmt: skip
    table = exposures_of(sequence, np.array([7.0, 7, 7, 7, 7]), _items(), SMALL)
    assert table.column_names == list(COLUMNS)
    assert table["converted"].to_pylist() == [1, 0, 1] and table["clicked"].to_pylist() == [1, 0, 1]
    assert table["weight"].to_pylist() == [1, 7, 1], "what converted was not sampled"
    counted = np.expm1(table["item_seen_count"].to_numpy())
    np.testing.assert_allclose(counted, 0, atol=1e-6, err_msg="a request's own conversions are not its past")


def test_a_click_before_its_impression_counts_like_any_other() -> None:
    early = _sequence(["click", "impression"], ["a", "a"], ["r1", "r1"], [10, 20])
    table = exposures_of(early, np.ones(2), _items(), SMALL)
    assert table["clicked"].to_pylist() == [1] and table["converted"].to_pylist() == [0]


def test_platt_scaling_undoes_sampling_of_negatives() -> None:
    rng = np.random.default_rng(0)
    truth = calibration.sigmoid(rng.normal(-5, 1, 400_000))
    label = (rng.random(len(truth)) < truth).astype(float)
    kept = (label > 0) | (rng.random(len(truth)) < 0.05)
    weight = np.where(label > 0, 1.0, 20.0)[kept]
    skewed = calibration.sigmoid(calibration.logit(truth[kept]) + np.log(20))
    a, b = calibration.fit_platt(skewed, label[kept], weight)
    assert a == pytest.approx(1, abs=0.1) and b == pytest.approx(-np.log(20), abs=0.5)
    fixed = calibration.sigmoid(a * calibration.logit(skewed) + b)
    found = calibration.report(fixed, label[kept], weight)
    assert found["ece"] < 0.15 * found["rate"] and found["predicted_over_observed"] == pytest.approx(1, abs=0.02)
    assert calibration.report(skewed, label[kept], weight)["ece"] > 5 * found["ece"]


def test_the_curve_bends_what_a_line_cannot() -> None:
    rng = np.random.default_rng(1)
    said = calibration.sigmoid(rng.normal(-6, 1, 300_000))
    truth = np.where(said > np.quantile(said, 0.9), np.minimum(3 * said, 1), 0.5 * said)
    label, weight = (rng.random(len(said)) < truth).astype(float), np.ones(len(said))
    fitted = Calibration.fit(said, label, weight)
    before = calibration.report(calibration.sigmoid(fitted.platt[0] * calibration.logit(said) + fitted.platt[1]), label,
                                weight)  # fmt: skip
    after = calibration.report(fitted.apply(said), label, weight)
    assert after["ece"] < 0.5 * before["ece"] and after["predicted_over_observed"] == pytest.approx(1, abs=0.05)
    rising = fitted.apply(np.sort(said[:1000]))
    assert (np.diff(rising) >= -1e-12).all() and after["auc"] == pytest.approx(before["auc"], abs=1e-3)
    assert Calibration.fit(said[:5], np.zeros(5), np.ones(5)).apply(said[:5]) == pytest.approx(said[:5])


def test_platt_scaling_survives_one_class_and_certainty() -> None:
    ones = np.ones(10)
    assert calibration.fit_platt(0.5 * ones, 0 * ones, ones) == (1.0, 0.0)
    a, b = calibration.fit_platt(np.repeat([0.0, 1.0], 5), np.repeat([0.0, 1.0], 5), ones)
    assert np.isfinite([a, b]).all()


def test_auc_counts_ties_half_and_weights() -> None:
    ones = np.ones(4)
    assert calibration.auc(np.array([1, 2, 3, 4.0]), np.array([0, 0, 1, 1.0]), ones) == 1
    assert calibration.auc(ones, np.array([0, 1, 0, 1.0]), ones) == 0.5
    weight = np.array([3, 1, 1, 1.0])
    assert calibration.auc(np.array([1, 4, 2, 3.0]), np.array([0, 0, 1, 1.0]), weight) == pytest.approx(0.75)


def test_the_loss_is_that_of_pctr_and_pctcvr() -> None:
    torch.manual_seed(0)
    net = RewardNet((4, 5), 3, 2, (8,))
    click, conversion = net(torch.tensor([[1, 2], [3, 4]]), torch.randn(2, 3))
    clicked, converted = torch.tensor([1.0, 0]), torch.tensor([1.0, 0])
    both = click.sigmoid() * conversion.sigmoid()
    expected = torch.nn.functional.binary_cross_entropy(click.sigmoid(), clicked)
    expected = expected + torch.nn.functional.binary_cross_entropy(both, converted)
    torch.testing.assert_close(reward_loss(click, conversion, clicked, converted), expected)


def test_it_learns_what_converts_and_publishes_its_calibration(work_dir: Path) -> None:
    config = SimpleNamespace(work_dir=work_dir, seed=0, rewards=SMALL)
    folder = reward(config)
    made = (folder / artifacts.MANIFEST).stat().st_mtime_ns
    assert reward(config) == folder and (folder / artifacts.MANIFEST).stat().st_mtime_ns == made
    found = json.loads((folder / "report.json").read_text())["converted"]
    assert found["auc"] > 0.65 and found["ece"] < 0.15
    assert len(found["deciles"]) == 10 and sum(row["weight"] for row in found["deciles"]) == found["exposures"]
    prepared = PreparedLog.open(work_dir / "prepared")
    model = RewardModel.open(folder, prepared.catalogue())
    sequence = next(read_sequences(prepared.sequences()[0]))
    past = Past.of(sequence, model.items.rows(sequence.item_H))
    now = int(sequence.timestamp_H[-1])
    rows = np.arange(40)
    money, again = model.judge([Question(past.before(now), now, "display", "user0", rows)] * 2)
    assert money.shape == (40,) and (money > 0).all() and np.array_equal(money, again)
    assert model.judge([Question(past.before(0), 0, "display", None, rows[:0])])[0].shape == (0,)


def test_a_log_without_conversions_is_refused(work_dir: Path, tmp_path: Path) -> None:
    prepared = PreparedLog.open(work_dir / "prepared")
    rows = write_exposures(prepared, SMALL, tmp_path / "exposures")
    tables = [pq.read_table(path) for path in sorted((tmp_path / "exposures").glob("*.parquet"))]
    assert rows == sum(table.num_rows for table in tables) > 1000
    (tmp_path / "work").mkdir()
    with pytest.raises(UserError, match=r"there is no .*; run adbeam"):
        reward(SimpleNamespace(work_dir=tmp_path / "work", seed=0, rewards=SMALL))


def _list_sample(**changes: object) -> ListSample:
    values: dict[str, object] = {
        "sample_id": "a", "request_id": "r", "user_id": "u", "timestamp": 1, "static": [1], "codes": [1, 2],
        "features": [1], "item_ids": ["x", "y"], "sids": [[1, 2], [3, 4]], "rewards": [1e9, None],
        "log_probabilities": [-1.0, None], "source": "beam", "model_version": "v", "tokens_version": "t",
    }  # fmt: skip
    return ListSample.model_validate({**values, **changes})


def test_a_list_sample_may_lack_rewards_and_log_probabilities() -> None:
    assert _list_sample().rewards == [1e9, None]
    assert _list_sample(log_probabilities=None).log_probabilities is None


@pytest.mark.parametrize(
    "changes",
    [
        {"rewards": [1.0]}, {"sids": [[1, 2], [3]]}, {"log_probabilities": [-1.0]}, {"log_probabilities": [0.5, -1.0]},
        {"rewards": [float("inf"), 1.0]}, {"sids": [], "item_ids": [], "rewards": []}, {"sids": [[1, -2], [3, 4]]},
    ],
)  # fmt: skip
def test_a_list_that_disagrees_with_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _list_sample(**changes)
