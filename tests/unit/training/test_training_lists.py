"""Lists in the training stream: rows and their bad input, every list objective, the rails, and what a model learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.support.decoding_samples import context_of, model_of
from tests.support.list_samples import list_config
from tests.support.training.samples import training_config

from adbeam import artifacts
from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.lists import list_loss, reference_kl
from adbeam.objectives.preference import quantile_reward
from adbeam.objectives.rspo import ListBatch
from adbeam.records import LIST_SAMPLE_SCHEMA
from adbeam.rewards import generate_lists
from adbeam.training.config import RailsConfig
from adbeam.training.data.build_rows import build_rows
from adbeam.training.data.list_rows import ListFormat, build_list_rows
from adbeam.training.guards.divergence import LiveSids, Rails, probe
from adbeam.training.reference_loop import train_plain
from adbeam.training.trainer import build_job, lists_for, run_name

METHODS = ("rspo", "dpo", "sdpo", "grpo", "ndcg_loss2")
NAN = math.nan


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = list_config(tmp_path_factory.mktemp("training-lists"))
    generate_lists(config)
    return config.work_dir


def configure(work_dir: Path, **preference: Any) -> Config:
    training = {"batch_lists": 8, "max_steps": 40, "learning_rate": 0.003}
    return training_config(
        work_dir, training, lists={"candidates": 8}, objectives={"preference": preference, "lambda_mtp": 0.1}
    )


def stored(work_dir: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted((work_dir / "lists").glob("*.parquet")))


def write_lists(folder: Path, rows: list[dict[str, Any]]) -> Path:
    with artifacts.publish(folder, {}) as staging:
        pq.write_table(pa.Table.from_pylist(rows, schema=LIST_SAMPLE_SCHEMA), staging / "lists-00000.parquet")
    return folder


def test_rows_of_odd_lists(work_dir: Path, tmp_path: Path) -> None:
    config = configure(work_dir, method="rspo")
    one, two, three = stored(work_dir).slice(0, 3).to_pylist()
    one |= {key: one[key][:1] for key in ("sids", "item_ids", "rewards", "log_probabilities")}
    two |= {"log_probabilities": None, "rewards": [1e9, None, NAN, math.inf, *two["rewards"][4:]]}
    store = build_rows(config, use_ray=False)
    folder = write_lists(tmp_path / "lists", [one, two, three, dict(three)])
    made = build_list_rows([folder], tmp_path / "rows", store.format, 6, "sample")
    assert made.files.rows == 3, "a sample that comes twice counts once"
    row = ListFormat(**made.format.as_dict()).from_table(made.files.take(np.arange(3)))
    by_size = {int(n): place for place, n in enumerate(row["candidates"])}
    assert by_size.keys() == {1, 6}, "longer lists are cut"
    odd = int(np.flatnonzero(np.isnan(row["log_probability_N"]).all(1))[0])
    assert row["reward_N"][odd, 0] == np.float32(1e9) and np.isnan(row["reward_N"][odd, 1:4]).all()
    assert len({tuple(code) for code in row["candidate_NT"][odd]}) > 1


def test_lists_of_another_tokenizer_or_model_are_refused(work_dir: Path, tmp_path: Path) -> None:
    config = configure(work_dir, method="rspo")
    store = build_rows(config, use_ray=False)
    with pytest.raises(UserError, match="another tokenizer"):
        build_list_rows([work_dir / "lists"], tmp_path / "rows", store.format, 8, "newer")
    row = stored(work_dir).slice(0, 1).to_pylist()[0]
    folder = write_lists(tmp_path / "lists", [row | {"codes": row["codes"][:-1]}])
    with pytest.raises(UserError, match="do not fit the model"):
        build_list_rows([folder], tmp_path / "rows", store.format, 8, "sample")
    with pytest.raises(UserError, match="no candidate lists"):
        build_list_rows([write_lists(tmp_path / "none", [])], tmp_path / "rows", store.format, 8, "sample")


def odd_lists() -> ListBatch:
    """One candidate; equal rewards; extreme and missing rewards; no reference; a plain list."""
    generator = torch.Generator().manual_seed(0)
    policy = -10 * torch.rand(5, 4, generator=generator)
    reward = torch.tensor([[1, 0, 0, 0], [2, 2, 2, 2], [1e9, NAN, 0, 1], [3, 2, 1, 0], [4, 3, 2, 1.0]])
    reference = policy + 0.1
    reference[3] = NAN
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[0, 1:] = False
    return ListBatch(policy.requires_grad_(), reference, reward, mask)


@pytest.mark.parametrize("unified", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_odd_lists_give_finite_losses_and_gradients(method: str, unified: bool) -> None:
    if unified and method != "rspo":
        return
    lists = odd_lists()
    config = ObjectivesConfig.parse({"preference": {"method": method, "unified": unified}})
    losses = {"sid": -lists.policy_BN[:, None], "mtp": -lists.policy_BN[:, None]}
    loss, metrics = list_loss(losses, lists, config)
    loss.backward()
    gradient = lists.policy_BN.grad
    assert gradient is not None and torch.isfinite(gradient).all() and torch.isfinite(loss)
    assert all(torch.isfinite(value) for value in metrics.values())
    if not unified and method != "grpo":  # GRPO keeps every list near the model that generated it
        assert not gradient[:2].any(), "a list of one and one of equal rewards say nothing"
        assert gradient[4, 0] < 0


def test_quantile_rewards_keep_order_and_ties_and_ignore_outliers() -> None:
    reward = torch.tensor([[1.0, 5.0, 1e9], [NAN, 5.0, 2.0]])
    v = quantile_reward(reward, ~torch.isnan(reward), 4.0)
    torch.testing.assert_close(v, torch.tensor([[0.0, 2.0, 4.0], [0.0, 2.0, 1.0]]))
    assert not quantile_reward(reward, torch.zeros(2, 3, dtype=torch.bool), 4.0).any()


@pytest.mark.parametrize(("imitate", "imitated"), [("all", [True, True, True]), ("above_mean", [True, False, False])])
def test_uvr_imitates_what_its_setting_says(imitate: str, imitated: list[bool]) -> None:
    sid = torch.tensor([[[3.0, 2.0, 1.0]]], requires_grad=True)
    policy, reward, mask = -sid[:, 0].detach(), torch.tensor([[9.0, 2.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool)
    settings = {"preference": {"method": "rspo", "unified": True}, "uvr": {"imitate": imitate}}
    loss, _ = list_loss({"sid": sid}, ListBatch(policy, policy, reward, mask), ObjectivesConfig.parse(settings))
    loss.backward()
    assert sid.grad is not None and (sid.grad[0, 0] > 0).tolist() == imitated


def test_kl_is_that_of_the_renormalised_lists() -> None:
    reference, policy = torch.tensor([[-1.0, -2, -3]]), torch.tensor([[-2.0, -1, -3]])
    lists = ListBatch(policy, reference, torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool))
    q, p = reference.softmax(1), policy.softmax(1)
    torch.testing.assert_close(reference_kl(lists), (q * (q / p).log()).sum())
    same = ListBatch(policy, policy - 5, torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool))
    assert reference_kl(same) == pytest.approx(0, abs=1e-6)
    none = ListBatch(policy, torch.full_like(policy, NAN), torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool))
    assert reference_kl(none) == 0


@pytest.mark.parametrize("preference", [{"method": "rspo", "weight": 30.0}, {"method": "sdpo", "weight": 3.0}])
def test_the_order_of_lists_is_learnt(work_dir: Path, preference: dict[str, Any]) -> None:
    config = configure(work_dir, **preference)
    store = build_rows(config, use_ray=False)
    lists = lists_for(config, store)
    job, stream = build_job(config, store, work_dir / "plain", lists)
    model, history = train_plain(job, stream)
    without, _ = build_job(configure(work_dir), store, work_dir / "plain")
    plain, _ = train_plain(without, stream.__class__(**{**stream.__dict__, "lists": None}))
    assert len(history) == 40
    assert lists is not None
    candidates = job.maker.candidates(lists.files.take(np.arange(min(64, lists.files.rows))))

    def ndcg(judged: Any) -> float:
        with torch.no_grad():
            sid = judged(candidates.batch, mtp=False)["sid"][:, 0]
        batch = ListBatch(-sid, candidates.reference_BN, candidates.reward_BN, candidates.mask_BN)
        return float(list_loss({"sid": sid[:, None]}, batch, config.objectives)[1]["list_ndcg"])

    assert ndcg(model) > ndcg(plain) + 0.02


def test_a_run_without_lists_keeps_its_name(work_dir: Path) -> None:
    store = build_rows(configure(work_dir), use_ray=False)
    base = run_name(configure(work_dir), store)
    assert base == run_name(training_config(work_dir, {"batch_lists": 4, "max_steps": 40, "learning_rate": 0.003},
                                            objectives={"lambda_mtp": 0.1}), store)  # fmt: skip
    lists = lists_for(configure(work_dir, method="rspo"), store)
    assert base != run_name(configure(work_dir, method="rspo"), store, lists)


def test_a_rail_stops_after_its_patience_and_says_why() -> None:
    rails = Rails(RailsConfig(max_kl_nats=1.0, patience_checks=2))
    assert rails.check({"list_kl": 5.0}) is None
    assert rails.check({"list_kl": 0.5}) is None, "a good check starts the count anew"
    assert rails.check({"list_kl": 5.0, "entropy_share": NAN}) is None
    assert rails.check({"list_kl": 5.0}) == (
        "the divergence from the reference is 5 nats, more than 1 in 2 checks in a row"
    )
    assert rails.check({"entropy_share": 0.0}) is None
    assert "entropy" in (rails.check({"entropy_share": 0.0}) or "")


def test_the_probe_sees_invalid_and_collapsed_sids() -> None:
    model = model_of()
    context = context_of(model.config, 32)
    books = model.config.codebooks
    every = np.stack(np.meshgrid(*[np.arange(size) for size in books], indexing="ij"), -1).reshape(-1, 3)
    codes = every[:, 0] * books[1] * books[2] + every[:, 1] * books[2] + every[:, 2]
    live = LiveSids(np.sort(codes), books)
    found = probe(model, context, live, torch.Generator().manual_seed(0))
    assert found["invalid_share"] == 0 and found["collapsed_share"] < 0.5 and found["entropy_share"] > 0.3
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.copy_(50 * model.get_parameter("codes.0.weight")[3])
        for level in range(1, len(model.codes)):
            model.get_parameter(f"codes.{level}.weight")[2] = 20 * model.norm.bias
        model.norm.bias.mul_(20)
    stuck = probe(model, context, LiveSids(np.array([0]), books), torch.Generator().manual_seed(0))
    assert stuck["invalid_share"] == 1 and stuck["collapsed_share"] > 0.9 and stuck["entropy_share"] < 0.05
