"""VSL, its weights and its eCPM buckets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adbeam.features.batch import ContextBatch, TrainBatch
from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.ecpm import EcpmBuckets, SlidingEcpm, within_reason
from adbeam.objectives.vsl import vsl_loss
from adbeam.objectives.weights import user_weight


def batch_of(weight: list[list[float]], bucket: list[list[int]] | None = None) -> TrainBatch:
    weight_BPM = torch.tensor(weight)[:, None]
    none = torch.zeros(1, dtype=torch.int64)
    bucket_BPM = torch.zeros_like(weight_BPM).long() if bucket is None else torch.tensor(bucket)[:, None]
    return TrainBatch(ContextBatch(none, none, none, none), none, none, bucket_BPM, weight_BPM)


def losses_of(sid: list[list[float]]) -> dict[str, torch.Tensor]:
    sid_BPM = torch.tensor(sid)[:, None].requires_grad_()
    return {"sid": sid_BPM, "ecpm": 2 * sid_BPM, "mtp": 3 * sid_BPM, "level": torch.stack([sid_BPM, 0 * sid_BPM])}


@pytest.mark.parametrize(("weighting", "expected"), [("A", 4 * (1 + 0.5 * 2) + 0.1 * 3), ("B", 4 * (1 + 1 + 0.3))])
def test_versions_differ_in_the_weight_of_the_auxiliary_loss(weighting: str, expected: float) -> None:
    config = ObjectivesConfig(lambda_ecpm=0.5, lambda_mtp=0.1, weighting=weighting)
    loss, _ = vsl_loss(losses_of([[1.0]]), batch_of([[4.0]]), config)
    assert loss.item() == pytest.approx(expected)


def test_padding_adds_nothing_and_a_prefix_counts_once() -> None:
    config = ObjectivesConfig(lambda_ecpm=0, lambda_mtp=0)
    losses = losses_of([[1.0, 3.0], [5.0, 99.0]])
    loss, metrics = vsl_loss(losses, batch_of([[1.0, 1.0], [1.0, 0.0]]), config)
    assert loss.item() == pytest.approx((2.0 + 5.0) / 2)
    assert metrics["sid"].item() == pytest.approx(3.0) and metrics["targets"].item() == 3
    loss.backward()
    assert losses["sid"].grad is None or losses["sid"].grad[1, 0, 1] == 0


def test_halves_of_a_batch_average_to_the_whole() -> None:
    """What data-parallel workers rely on, whatever the number of targets each of them holds."""
    config = ObjectivesConfig()
    sid, weight = [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [1.0, 0.0]]
    whole, _ = vsl_loss(losses_of(sid), batch_of(weight), config)
    halves = [vsl_loss(losses_of(sid[b : b + 1]), batch_of(weight[b : b + 1]), config)[0] for b in range(2)]
    assert whole.item() == pytest.approx(sum(half.item() for half in halves) / 2)


def test_unknown_buckets_do_not_enter_the_ecpm_metric() -> None:
    losses = losses_of([[1.0, 7.0]])
    _, metrics = vsl_loss(losses, batch_of([[1.0, 1.0]], [[3, -1]]), ObjectivesConfig())
    assert metrics["ecpm"].item() == pytest.approx(2.0)


def test_a_batch_of_padding_has_no_loss() -> None:
    loss, metrics = vsl_loss(losses_of([[1.0]]), batch_of([[0.0]]), ObjectivesConfig())
    assert loss.item() == 0 and metrics["sid"].item() == 0


def test_user_weight_has_mean_one_and_follows_value() -> None:
    weight = user_weight(np.array([0.0, 1.0, 10.0, 1e9, np.nan]))
    assert weight.mean() == pytest.approx(1.0)
    assert weight[3] / weight[0] == pytest.approx(4.0), "clipped to [0.5, 2]"
    assert user_weight(np.zeros(3)).tolist() == [1, 1, 1]


def test_buckets_hold_equally_many_values() -> None:
    values = np.random.default_rng(0).lognormal(size=6400)
    buckets = EcpmBuckets.fit(values, 32)
    assert np.ptp(np.bincount(buckets.assign(values))) <= 2
    assert buckets.means[5] == pytest.approx(values[buckets.assign(values) == 5].mean())
    assert (np.diff(buckets.means) > 0).all()


def test_ties_extremes_and_gaps() -> None:
    buckets = EcpmBuckets.fit(np.array([1.0] * 50 + [2.0] * 50 + [1e9, np.nan, np.inf]), 8)
    assert len(buckets.means) == 8 and np.isfinite(buckets.means).all() and (np.diff(buckets.means) >= 0).all()
    assigned = buckets.assign(np.array([1.0, 2.0, 1e12, np.nan]))
    assert assigned[0] < assigned[1] <= assigned[2] < 8 and assigned[3] == -1
    assert EcpmBuckets.fit(np.array([]), 4).means.tolist() == [0, 0, 0, 0]


def planted(orders: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(orders of 1 to 90, the same with some more of 59.90 in micros)."""
    clean = np.random.default_rng(orders).uniform(1, 90, orders).round(2)
    return clean, np.concatenate([clean, np.full(rows, 59_900_000.0)])


@pytest.mark.parametrize(("orders", "rows"), [(233, 1), (20_000, 10), (30, 1)])
def test_rows_in_micros_move_no_bucket_and_lie_in_the_top_one(orders: int, rows: int) -> None:
    clean, dirty = planted(orders, rows)
    want, got = EcpmBuckets.fit(clean, 32), EcpmBuckets.fit(dirty, 32)
    assert np.array_equal(got.means, want.means) and np.array_equal(got.edges, want.edges)
    assert got.assign(dirty[-rows:]).tolist() == [31] * rows
    sliding = SlidingEcpm(32, window=len(dirty))
    sliding.add(dirty)
    assert np.array_equal(sliding.current().means, want.means)


def test_a_row_in_micros_in_place_of_a_true_one_moves_no_bucket_of_many_rows() -> None:
    clean, _ = planted(20_000, 0)
    dirty = clean.copy()
    dirty[:10] = 59_900_000.0
    change = EcpmBuckets.fit(dirty, 32).means / EcpmBuckets.fit(clean, 32).means - 1
    assert np.abs(change).max() < 0.01


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).lognormal(sigma=1.5, size=20_000),
        np.concatenate([np.full(900, 0.1), np.full(100, 50_000.0)]),
        np.concatenate([np.zeros(900), [5.0, 80.0]]),
        np.full(50, 3.0),
        np.array([7.0]),
        np.array([1.0, 900.0]),
    ],
    ids=["heavy tail", "two populations", "mostly nothing", "all equal", "one", "two"],
)
def test_buckets_of_a_log_without_a_slip_are_the_plain_ones(values: np.ndarray) -> None:
    assert within_reason(np.sort(values)).tolist() == np.sort(values).tolist()
    buckets = EcpmBuckets.fit(values, 4)
    top = values[buckets.assign(values) == 3]
    assert buckets.means[3] == pytest.approx(top.mean())


def test_a_user_of_one_order_in_micros_changes_no_weight_of_the_others() -> None:
    clean, dirty = planted(233, 1)
    before, after = user_weight(clean), user_weight(dirty)
    assert after[:-1] / after[0] == pytest.approx(before / before[0]) and after[-1] == after.max()


def test_buckets_survive_storage() -> None:
    buckets = EcpmBuckets.fit(np.arange(100.0), 5)
    again = EcpmBuckets.from_dict(buckets.as_dict())
    assert np.array_equal(again.edges, buckets.edges) and np.array_equal(again.means, buckets.means)


@pytest.mark.parametrize("step", [1, 7, 100, 1000])
def test_a_sliding_window_forgets_what_is_old(step: int) -> None:
    values = np.random.default_rng(0).normal(size=3000).cumsum()
    sliding = SlidingEcpm(4, window=500)
    for start in range(0, 3000, step):
        sliding.add(values[start : start + step])
    assert np.array_equal(sliding.current().edges, EcpmBuckets.fit(values[-500:], 4).edges)
