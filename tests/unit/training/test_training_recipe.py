"""All prefixes of a user as one row, averaged weights, and the early stop: what each computes."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from adbeam.errors import UserError
from adbeam.evaluation.metrics import ndcg_at
from adbeam.features.contexts import Moment, build_contexts
from adbeam.features.history import History
from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.logs.requests import UserSequence
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR
from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.ecpm import EcpmBuckets
from adbeam.records import ACTIONS, ITEM_KINDS
from adbeam.training.config import BehaviorWeights, EarlyStopConfig, TrainingConfig
from adbeam.training.data.batches import BatchMaker
from adbeam.training.data.prefix_rows import PrefixRowBuilder
from adbeam.training.data.prefixes import mean_over_targets, prefix_batch
from adbeam.training.data.rows import RowFormat
from adbeam.training.guards.early_stop import FIRST, EarlyStop
from adbeam.training.launch import single_process_group
from adbeam.training.loop import vsl_of
from adbeam.training.state.average import WeightAverage
from adbeam.training.state.checkpoint import RunState

ndcg = partial(ndcg_at, k=FIRST)
CONVERSION, CLICK, IMPRESSION = (ACTIONS.index(name) for name in ("conversion", "click", "impression"))
AD = ITEM_KINDS.index("ad")
MODEL = ModelConfig(
    width=16, layers=3, lazy_layers=2, heads=2, context_kv_heads=2, context_kv_groups=1, codebooks=(5, 4, 3),
    ecpm_buckets=2, short_length=6, long_length=0, item_buckets=64, prefix_buckets=64, user_buckets=1,
    recency_bias=True, order_only=True,
)  # fmt: skip
SPEC = FeatureSpec.of(MODEL)
CODE_NT = np.stack(np.unravel_index(np.arange(20), (5, 4, 3)), axis=1)
SIDS = SidTable.of([f"i{n}" for n in range(20)], CODE_NT)
WEIGHTS = BehaviorWeights(ad_conversion=1.0)


def sequence(items: list[int], requests: list[int] | None = None, **columns: list[int]) -> UserSequence:
    """Conversions of ads, each a request of its own at a time of its own unless told otherwise."""
    count = len(items)
    request = np.arange(count) if requests is None else np.array(requests)
    return UserSequence(
        "u",
        np.array(columns.get("split", [0] * count)),
        np.array([f"r{number}" for number in request], dtype=object),
        request * 10,
        np.array([f"i{item}" for item in items], dtype=object),
        np.full(count, AD),
        np.array(["home"] * count, dtype=object),
        np.array(columns.get("action", [CONVERSION] * count)),
        np.zeros(count, dtype=np.float32),
    )


def rows_of(*sequences: UserSequence) -> np.ndarray:
    builder = PrefixRowBuilder(SIDS, RowFormat.of(MODEL, 8, prefixes=True), "conversion", WEIGHTS, 0)
    return np.concatenate(list(builder.each(sequences)))


def maker() -> BatchMaker:
    return BatchMaker(RowFormat.of(MODEL, 8, prefixes=True), EcpmBuckets.fit(np.zeros(0), 2), np.zeros(0))


def batch_of(*sequences: UserSequence) -> Any:
    one = maker()
    return one.batch(one.format.to_table(rows_of(*sequences)))


def test_rows_of_users_are_all_their_prefixes() -> None:
    users = [[3, 1, 4, 15, 9], [2, 6], [5, 3, 5, 8, 9, 7, 9, 3, 2]]
    batch = batch_of(*(sequence(items) for items in users))
    wanted = prefix_batch([CODE_NT[items[-7:]] for items in users], SPEC)
    assert torch.equal(batch.context.code_BST, wanted.context.code_BST)
    assert torch.equal(batch.context.feature_BSC, wanted.context.feature_BSC)
    assert torch.equal(batch.context.static_BF, wanted.context.static_BF)
    assert torch.equal(batch.code_BPMT, wanted.code_BPMT) and torch.equal(batch.weight_BPM, wanted.weight_BPM)
    real_BP = wanted.weight_BPM[..., 0] > 0
    assert torch.equal(batch.visible_BP[real_BP], wanted.visible_BP[real_BP])
    torch.manual_seed(0)
    model = LazyAR(MODEL).eval()
    objectives = ObjectivesConfig(lambda_mtp=0.0, lambda_ecpm=0.0)
    loss, metrics = vsl_of(model, batch, objectives)
    expected = mean_over_targets(model.train_losses(wanted, mtp=False, ecpm=False), wanted)
    torch.testing.assert_close(loss, expected)
    assert metrics["targets"] == 11 and "ecpm" not in metrics


def test_a_target_sees_what_came_strictly_before_its_request() -> None:
    (row,) = rows_of(sequence([1, 2, 3, 4, 5], requests=[0, 0, 1, 2, 2]))
    targets = int((row["weight_M"] > 0).sum())
    assert row["target_MT"][:targets, 0].tolist() == CODE_NT[[3, 4, 5], 0].tolist(), "the first request is no target"
    assert row["visible_M"][:targets].tolist() == [1 + 2, 1 + 3, 1 + 3]


def test_rows_hold_training_events_that_have_a_sid_and_are_no_impressions() -> None:
    action = [CONVERSION, IMPRESSION, CLICK, CONVERSION, CONVERSION, CONVERSION]
    split = [0, 0, 0, 0, 0, 1]
    (row,) = rows_of(sequence([1, 2, 3, 99, 5, 6], action=action, split=split))
    assert (row["code_ST"][1:4, 0] >= 0).tolist() == [True, True, False]
    assert row["feature_SC"][1:3, 1].tolist() == [CONVERSION, CLICK]
    assert row["weight_M"].tolist() == [1.0] + [0.0] * 5 and row["target_MT"][0].tolist() == CODE_NT[5].tolist()
    assert len(rows_of(sequence([1]), sequence([1, 2], split=[0, 2]))) == 0, "nothing to learn"


def test_a_request_is_told_as_its_prefix_was() -> None:
    """What serving makes of a history is the context that training masked."""
    items = [3, 1, 4, 15]
    batch = batch_of(sequence([*items, 9]))
    events = sequence(items)
    history = History.of(events, CODE_NT[items])
    context = build_contexts([history], [Moment(10**12, "elsewhere", "somebody")], SPEC).batch()
    for name in ("static_BF", "code_BST", "feature_BSC"):
        served, trained = getattr(context, name), getattr(batch.context, name)
        assert torch.equal(served if name == "static_BF" else served[:, : trained.shape[1]], trained), name
    knows_times = FeatureSpec.of(MODEL.model_copy(update={"order_only": False}))
    assert build_contexts([history], [Moment(10**12, "s", "u")], knows_times).feature_BSC[0, 1, 2:].any()


def test_what_is_not_used_leaves_no_trace() -> None:
    plain = MODEL.model_copy(update={"order_only": False})
    assert "order_only" in MODEL.model_dump() and "order_only" not in plain.model_dump()
    assert "order_only" in SPEC.as_dict() and "order_only" not in FeatureSpec.of(plain).as_dict()
    assert FeatureSpec.from_dict(SPEC.as_dict()) == SPEC
    assert "prefixes" not in RowFormat.of(plain, 8).as_dict()
    assert TrainingConfig().unused() == {"prefixes", "average_decay", "early_stop"}
    assert TrainingConfig(average_decay=0.9).unused() == {"prefixes", "early_stop"}


@pytest.mark.parametrize("wrong", [{"long_length": 3}, {"trending_length": 4}])
def test_an_order_tells_nothing_else(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="order_only"):
        ModelConfig.parse({**MODEL.model_dump(), **wrong})
    with pytest.raises(UserError, match="zero_stage 0, 1 or 2"):
        TrainingConfig.parse({"average_decay": 0.9, "zero_stage": 3})


def test_a_mean_of_weights_follows_its_formula() -> None:
    module = torch.nn.Linear(2, 1, bias=False)
    average, expected = WeightAverage(0.5, module), module.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            module.weight.add_(float(step))
        average.update(module, step)
        decay = min(0.5, step / (step + 10))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    torch.testing.assert_close(average.mean["weight"], expected)
    again = WeightAverage(0.5, module, average.mean)
    assert torch.equal(again.mean["weight"], average.mean["weight"])


def test_a_run_that_gets_no_better_ends_with_its_best_weights() -> None:
    values = iter([0.1, 0.3, 0.2, 0.3, 0.1])
    state = RunState()
    judge: Any = SimpleNamespace(ndcg=lambda weights: next(values))
    ended = []
    with single_process_group():
        stop = EarlyStop(EarlyStopConfig(interval_steps=10, patience_checks=3), state, judge)
        for check in range(1, 6):
            state.step = 10 * check
            assert stop.due()
            ended.append(stop.check({"w": torch.tensor([float(check)])})[1])
    assert ended == [False, False, False, False, True]
    assert (state.best_value, state.best_step) == (0.3, 20)
    assert state.best is not None and state.best["w"].item() == 2.0
    state.step = 51
    assert not stop.due()


def test_ndcg_counts_places_of_the_first_ten() -> None:
    assert ndcg(["a", "b"], {"b": 1.0}) == pytest.approx(1 / np.log2(3))
    assert ndcg(["a", "b"], {"a": 1.0, "b": 1.0}) == pytest.approx(1.0)
    assert ndcg([*map(str, range(10)), "x"], {"x": 1.0}) == 0.0


def test_row_tables_carry_what_a_target_sees() -> None:
    row_N = rows_of(sequence([1, 2, 3]), sequence([4, 5]))
    format = RowFormat.of(MODEL, 8, prefixes=True)
    back = format.from_table(pa.concat_tables([format.to_table(row_N[:1]), format.to_table(row_N[1:])]))
    assert np.array_equal(back["visible_M"], row_N["visible_M"])
    assert format.sizes(format.to_table(row_N)).tolist() == [[2, 2], [1, 1]]
