"""The target follows the log: conversions, or clicks where the training split has none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.click_log import prepare_without_conversions
from tests.support.samples import VALIDATION_FROM_MS, write_sample_prepared

from adbeam.errors import UserError
from adbeam.logs.prepared import PreparedLog, check_target, resolve_target
from adbeam.logs.trending import NOTHING


def forget(prepared: PreparedLog) -> None:
    """Leave the account as an older version wrote it."""
    path = prepared.folder / "account.json"
    account = {name: value for name, value in prepared.account.items() if name not in ("training", "money")}
    path.write_text(json.dumps(account), encoding="utf-8")


@pytest.mark.parametrize("older", [False, True])
def test_a_log_with_conversions_has_them_for_targets(tmp_path: Path, older: bool) -> None:
    prepared = write_sample_prepared(tmp_path, users=6, items=20)
    if older:
        forget(prepared)
    assert prepared.target_action == resolve_target("auto", prepared.folder) == "conversion"
    assert resolve_target("click", prepared.folder) == "click"
    check_target("auto", prepared.folder)
    check_target("conversion", prepared.folder)


@pytest.mark.parametrize("older", [False, True])
def test_a_log_of_clicks_has_clicks_for_targets_and_trends(
    tmp_path: Path, older: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare_without_conversions(tmp_path, users=6, items=20)
    assert "clicks are the targets" in capsys.readouterr().out
    if older:
        forget(prepared)
    assert prepared.target_action == resolve_target("auto", prepared.folder) == "click"
    check_target("click", prepared.folder)
    with pytest.raises(UserError, match=r"clicks and no conversions; got 'conversion'; set training\.target_action"):
        check_target("conversion", prepared.folder)
    trending = prepared.trends().at(VALIDATION_FROM_MS)
    assert trending is not NOTHING and len(trending.item_N)
    assert trending.share_NW.sum(axis=0) == pytest.approx(1.0)


def test_a_log_of_impressions_is_told_that_nothing_can_be_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare_without_conversions(tmp_path, "impression", users=6, items=20)
    assert "neither conversions nor clicks" in capsys.readouterr().out
    assert prepared.target_action == "conversion"
    for check in (check_target, resolve_target):
        with pytest.raises(UserError, match=r"training\.target_action: .* neither conversions nor clicks"):
            check("auto", prepared.folder)


def test_without_a_prepared_log_the_step_before_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="adbeam prepare"):
        resolve_target("auto", tmp_path / "prepared")
