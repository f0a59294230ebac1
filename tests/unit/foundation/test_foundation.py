"""The foundation: what a row may know, towers and branches, representations by hand, a run that resumes, AUC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from tests.support.foundation.samples import foundation_config

from adbeam.errors import UserError
from adbeam.foundation import foundation
from adbeam.foundation.config import FoundationConfig
from adbeam.foundation.data.build_rows import scenes_of
from adbeam.foundation.data.items import Items
from adbeam.foundation.data.rows import RowMaker, from_table, to_table
from adbeam.foundation.net.model import FoundationNet, RowBatch, foundation_loss
from adbeam.foundation.report import CONTENT, auc_of, lines
from adbeam.foundation.scoring import Foundation
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import UserSequence, read_sequences
from adbeam.records import DAY_MS, ITEM_KINDS
from adbeam.training.tracking import progress
from adbeam.workdir import WorkDir

SMALL = FoundationConfig(embedding_width=4, tower_width=8, tower_hidden=(), user_buckets=64, history_length=3)
NO_WEIGHTS = np.ones(100)


def items() -> Items:
    catalogue = pa.table(
        {"item_id": ["a", "b", "c", "d"], "category": ["x", "y", None, "x"], "brand": ["p", "q", "p", "p"],
         "advertiser": ["m", "m", "n", "n"], "price": [2.0, 3.0, None, 1.0],
         "kind": ["ad", "ad", "organic", "organic"]}
    )  # fmt: skip
    return Items.of(catalogue, SMALL)


def sequence(kinds: list[str], names: list[str], times: list[int], actions: list[int]) -> UserSequence:
    n = len(names)
    return UserSequence(
        "user", np.zeros(n, np.int8), np.array([f"r{time}" for time in times], object), np.array(times) * DAY_MS,
        np.array(names, object), np.array([ITEM_KINDS.index(kind) for kind in kinds]), np.full(n, "mailer", object),
        np.array(actions), np.ones(n, np.float32),
    )  # fmt: skip


def rows_of(one: UserSequence) -> np.ndarray:
    return RowMaker(items(), ("mailer",), SMALL).user_rows(one, NO_WEIGHTS, np.random.default_rng(0))


def batch_of() -> RowBatch:
    one = sequence(["ad", "organic", "ad", "ad"], ["a", "c", "b", "a"], [1, 2, 3, 4], [3, 3, 0, 1])
    return RowBatch.of(from_table(to_table(rows_of(one))))


def test_a_row_knows_nothing_of_its_request_and_of_what_came_after() -> None:
    before = sequence(["ad", "organic", "ad"], ["a", "c", "b"], [1, 2, 3], [3, 3, 0])
    after = sequence(["ad", "organic", "ad", "ad"], ["a", "c", "b", "a"], [1, 2, 3, 4], [3, 3, 0, 3])
    early, late = rows_of(before), rows_of(after)
    assert np.array_equal(early, late[: len(early)])
    first = early[0]
    assert not first["past"].any() and not first["user_dense"][:4].any(), "its own conversion is not its past"
    assert np.expm1(4 * late[-1]["user_dense"][:4]).tolist() == pytest.approx([3, 2, 2, 1])


def test_one_row_an_item_and_request_with_its_furthest_action_and_organic_ones_that_were_not_chosen() -> None:
    one = sequence(["ad", "ad", "organic"], ["a", "a", "c"], [1, 1, 1], [0, 3, 3])
    row = rows_of(one)
    assert row["label"][row["ad"][:, 0] == 1].tolist() == [[1, 1]]
    content = row[row["ad"][:, 0] == 0]
    assert (content["label"].sum(1) > 0).sum() == 1 and set(content["row"][1:, 0]) <= {3}, "drawn of organic items"


def test_an_unknown_item_has_no_row_and_an_unknown_scene_a_bucket() -> None:
    one = sequence(["ad", "ad"], ["a", "nowhere"], [1, 1], [0, 0])
    row = RowMaker(items(), ("display",), SMALL).user_rows(one, NO_WEIGHTS, np.random.default_rng(0))
    assert row["row"].tolist() == [[0]] and row["context"][0, 0] == 0


@pytest.mark.parametrize("towers", ["none", "mlp"])
def test_representations_are_those_of_a_forward_by_hand(towers: str) -> None:
    config = SMALL.model_copy(update={"towers": towers})
    net: Any = FoundationNet(config, 1).eval()
    batch = batch_of()
    found = net.representations(batch)
    ur, ir = net.users(batch), net.items(batch)
    assert (ur.shape[1], ir.shape[1]) == ((8, 8) if towers == "mlp" else (12, 20))
    context = [table(batch["context"][:, place]) for place, table in enumerate(net.context)]
    x = first = torch.cat([ur, ir, *context], 1)
    by_hand = [x]
    for layer in net.mix.cross.layers:
        assert isinstance(layer, torch.nn.Linear)
        x = (x @ layer.weight.T + layer.bias) * first + x
        by_hand.append(x)
    for layer in net.mix.ads.layers:
        assert isinstance(layer, torch.nn.Linear)
        x = x.clamp_min(0) @ layer.weight.T + layer.bias
        by_hand.append(x)
    assert len(found) == config.layers + 1
    for mine, theirs in zip(found, by_hand, strict=True):
        torch.testing.assert_close(mine, theirs)
    heads = net.mix.ads.head(x.clamp_min(0)).view(len(batch), 2, 2)
    of_scene = heads[torch.arange(len(batch)), batch["context"][:, 0]]
    ad = batch["ad"][:, 0] > 0
    torch.testing.assert_close(net(batch)[ad], of_scene[ad])


@pytest.mark.parametrize(("ad", "moved", "still"), [(1.0, "ads", "content"), (0.0, "content", "ads")])
def test_rows_of_one_branch_move_nothing_of_the_other(ad: float, moved: str, still: str) -> None:
    net: Any = FoundationNet(SMALL, 1)
    batch = batch_of()
    batch.fields["ad"].fill_(ad)
    torch.autograd.backward(foundation_loss(net(batch), batch)[0])
    gradients = {name: sum(float(weight.grad.abs().sum()) for weight in getattr(net.mix, name).parameters()
                           if weight.grad is not None) for name in (moved, still)}  # fmt: skip
    assert gradients[still] == 0.0 < gradients[moved]
    of_heads = net.mix.ads.head.weight.grad
    assert of_heads is not None and not of_heads.view(2, 2, -1)[0].any(), "heads of a scene without rows stay"


def test_users_and_items_do_not_know_the_scene() -> None:
    net, batch = FoundationNet(SMALL, 3).eval(), batch_of()
    before = net.users(batch), net.items(batch)
    batch.fields["context"][:, 0] = 2
    assert torch.equal(before[0], net.users(batch)) and torch.equal(before[1], net.items(batch))


def test_a_run_publishes_auc_by_scene_and_does_nothing_when_it_is_current(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = foundation_config(tmp_path, {"max_steps": 60})
    folder = foundation(config)
    printed = capsys.readouterr().out
    report = json.loads((folder / "report.json").read_text())["scenes"]
    assert {"mailer", "display", CONTENT} <= set(report)
    assert all(scene in printed for scene in report)
    found = report[CONTENT]["converted"]
    assert found["auc"] > 0.55 and found["positives"] > 20
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "converted_macro_auc" in manifest["metrics"]
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert foundation(config) == folder and (folder / "manifest.json").stat().st_mtime_ns == before
    model = Foundation.open(folder)
    assert model.scenes == ("display", "mailer", "organic") and model.version == manifest["fingerprint"]


def losses(config_folder: Path) -> list[float]:
    (path,) = WorkDir(config_folder).foundation_runs.glob("*/metrics.parquet")
    found: list[float] = pq.read_table(path)["loss"].to_pylist()
    return found


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = foundation_config(tmp_path / "cut", {"checkpoint_interval_steps": 6})
    show = progress.Printer.__call__

    def stop_at_nine(self: progress.Printer, row: progress.Row) -> None:
        show(self, row)
        if row["step"] == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(progress.Printer, "__call__", stop_at_nine)
        with pytest.raises(KeyboardInterrupt):
            foundation(config)
    assert not WorkDir(tmp_path / "cut").foundation.exists()
    foundation(config)
    foundation(foundation_config(tmp_path / "whole", {"checkpoint_interval_steps": 100}))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_scene_without_positives_is_named_and_has_no_auc() -> None:
    found = {"display": {"clicked": auc_of(np.array([0.1, 0.2]), np.zeros(2), np.ones(2))}}
    assert found["display"]["clicked"]["auc"] is None
    assert "one class only" in lines(found)[1] and "display" in lines(found)[1]


def test_too_short_a_log_and_a_step_that_is_missing_are_named(tmp_path: Path) -> None:
    config = foundation_config(tmp_path, {"batch_requests": 100_000})
    with pytest.raises(UserError, match=r"foundation\.training\.batch_requests: .*fewer than one batch"):
        foundation(config)
    empty = tmp_path / "empty"
    with pytest.raises(UserError, match="adbeam prepare"):
        foundation(config.model_copy(update={"work_dir": empty}))


def test_settings_that_mean_nothing_here_are_refused_and_defaults_are_its_own() -> None:
    with pytest.raises(ValidationError, match="are not for the foundation"):
        FoundationConfig.model_validate({"training": {"prefixes": True}})
    given = FoundationConfig.model_validate({"training": {"workers": 2}}).training
    assert (given.workers, given.batch_requests, given.epochs) == (2, 512, 2)


def test_sequences_of_a_prepared_log_give_rows_of_every_split(tmp_path: Path) -> None:
    config = foundation_config(tmp_path)
    prepared = PreparedLog.open(WorkDir(tmp_path).prepared)
    maker = RowMaker(Items.of(prepared.catalogue(), config.foundation), scenes_of(prepared), config.foundation)
    rng, users = np.random.default_rng(0), read_sequences(prepared.sequences()[0])
    row = np.concatenate([maker.user_rows(user, np.ones(len(user)), rng) for user in users])
    assert set(np.unique(row["split"])) == {0, 1, 2} and row["context"][:, 0].min() >= 1
