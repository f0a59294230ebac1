"""The ledger and the join: every file in one round, every event in one account, every outcome learnt once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.online.feedback import WEEK_MS, event, request

from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.logs.requests import AD, UserSequence
from adbeam.online.config import GateConfig
from adbeam.online.gate import decide, judge, lower_bound
from adbeam.online.histories import HELD_OUT, NEW, PAST
from adbeam.online.join import JoinTask, audit, join_shard, samples_of
from adbeam.online.ledger import Ledger
from adbeam.online.rounds import run_rounds
from adbeam.online.rows import corrections_of, fresh_samples, is_held_out, marked, requests_of
from adbeam.records import ACTIONS, EVENT_SCHEMA, REQUEST_SCHEMA
from adbeam.training.data.row_builder import ad_value

DEEP = ACTIONS[ACTIONS.index("click") + 1]


class Rounds:
    """Joins a shard of one, a round at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.state = folder / "state.sqlite"

    def run(self, requests: list[Any], events: list[Any], now_ms: int = 0, repeat: bool = False) -> dict[str, Any]:
        self.number += 0 if repeat else 1
        inputs = self.folder / f"{self.number}"
        for kind, schema, rows in (("requests", REQUEST_SCHEMA, requests), ("events", EVENT_SCHEMA, events)):
            (inputs / kind).mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), inputs / kind / "a.parquet")
        return join_shard(JoinTask(self.state, inputs, 0, 1, self.number, now_ms, WEEK_MS, 300_000))

    def samples(self) -> list[tuple[str, str, int]]:
        rows = samples_of(self.state, self.number).to_pylist()
        return [(row["item_id"], ACTIONS[row["action"]], row["before"]) for row in rows]


@pytest.fixture
def rounds(tmp_path: Path) -> Rounds:
    return Rounds(tmp_path)


def test_a_late_conversion_corrects_its_click_once(rounds: Rounds) -> None:
    click = event("e1", "r1", "a", "click", 2000)
    first = rounds.run([request("r1", 1000, ["a", "b"])], [click, event("e2", "r1", "b", "impression", 1500)])
    assert (first["used"], first["samples"]) == (2, 2)
    late = event("e3", "r1", "a", "conversion", 1000 + WEEK_MS, price=5.0)
    again = rounds.run([], [late, click], now_ms=1000 + WEEK_MS)
    assert (again["duplicates"], again["samples"]) == (1, 1)
    assert rounds.samples() == [("a", "conversion", ACTIONS.index("click"))]
    assert samples_of(rounds.state, 2)["value"].to_pylist() == [5.0]
    repeated = rounds.run([], [late], repeat=True)
    assert repeated == again, "a round that was applied is not applied again"
    found = audit([rounds.state], 4)
    assert (found["lost"], found["duplicated"], found["stored"]) == (0, 0, 3)


def test_click_and_conversion_of_one_round_are_one_sample(rounds: Rounds) -> None:
    rounds.run([request("r1", 1000, ["a"])], [event("e2", "r1", "a", "conversion", 3000, price=4.0),
                                              event("e1", "r1", "a", "click", 2000)])  # fmt: skip
    assert rounds.samples() == [("a", "conversion", -1)]


def test_feedback_waits_for_its_request_and_is_given_up_after_the_window(rounds: Rounds) -> None:
    assert (
        rounds.run([], [event("e1", "r1", "a", "click", 2000), event("e9", "r9", "a", "click", 2000)])["pending"] == 2
    )
    found = rounds.run([request("r1", 1000, ["a"])], [], now_ms=5000)
    assert (found["used"], found["pending"], found["samples"]) == (1, 1, 1)
    late = rounds.run([], [event("e2", "r1", "a", "conversion", 1001 + WEEK_MS)], now_ms=3000 + WEEK_MS)
    assert (late["expired"], late["orphan"], late["pending"], late["samples"]) == (1, 1, 0, 0)
    assert audit([rounds.state], 3)["lost"] == 0


def test_feedback_that_cannot_be_true_is_no_sample(rounds: Rounds) -> None:
    odd = [event("e1", "r1", "never shown", "click", 2000), event("e2", "r1", "a", "click", 2000, user="another"),
           event("e3", "r1", "a", "click", 1_000_000 - 300_001)]  # fmt: skip
    found = rounds.run([request("r1", 1_000_000, ["a"])], odd)
    assert (found["orphan"], found["samples"]) == (3, 0)
    skewed = rounds.run([], [event("e4", "r1", "a", "click", 1_000_000 - 1000)])
    assert skewed["samples"] == 1, "a click stamped shortly before its request is one"


def test_lower_actions_after_higher_ones_change_nothing(rounds: Rounds) -> None:
    rounds.run([request("r1", 1000, ["a"])], [event("e1", "r1", "a", "conversion", 3000, price=1e9)])
    assert rounds.run([], [event("e2", "r1", "a", "click", 2000)])["samples"] == 0


def test_a_file_belongs_to_one_round_and_half_a_file_to_none(tmp_path: Path) -> None:
    logs = tmp_path / "events"
    logs.mkdir()
    table = pa.Table.from_pylist([event("e1", "r1", "a", "click", 1)], schema=EVENT_SCHEMA)
    pq.write_table(table, logs / "events-1.parquet")
    whole = (logs / "events-1.parquet").read_bytes()
    (logs / "events-2.parquet").write_bytes(whole[: len(whole) // 2])
    (logs / ".events-3.parquet.partial").write_bytes(whole)
    ledger = Ledger(tmp_path / "online")
    opened = ledger.claim({"events": logs, "requests": tmp_path / "none"})
    assert opened is not None and [name for name, _, _ in ledger.files(1)] == ["events-1.parquet"]
    assert ledger.open_round() == opened
    (logs / "events-1.parquet").unlink()
    assert (ledger.inputs(1) / "events" / "events-1.parquet").is_file(), "rotation cannot take a claimed file away"
    ledger.advance(1, "done", "published", "")
    assert ledger.claim({"events": logs}) is None and ledger.open_round() is None
    (logs / "events-2.parquet").write_bytes(whole)
    second = ledger.claim({"events": logs})
    assert second is not None and second.number == 2
    ledger.close()


def test_marks_choose_what_is_trained_on() -> None:
    n = 3
    sequence = UserSequence(
        "u", np.array([0, 2, 1], np.int8), np.array(["r1", "r2", "r3"], object), np.arange(n),
        np.array(["a"] * n, object), np.full(n, AD), np.array(["s"] * n, object),
        np.full(n, ACTIONS.index("conversion")), np.ones(n),
    )  # fmt: skip
    assert marked(sequence, 0, "conversion", None, False).split_H.tolist() == [0, 2, 2]
    assert marked(sequence, 2, "conversion", None, False).split_H.tolist() == [2, 0, 2]
    assert marked(sequence, 0, "conversion", {("r1", "a")}, False).split_H.tolist() == [2, 2, 2]
    assert marked(sequence, 0, "conversion", {("r1", "a")}, True).split_H.tolist() == [0, 2, 2]
    held = sum(is_held_out(f"r{number}", 20) for number in range(2000))
    assert 340 < held < 460


def test_the_gates_bound_is_one_sided() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.normal(0.0, 1.0, 400)
    assert lower_bound(noisy - noisy.mean() + 0.2, 0.9) > 0 > lower_bound(noisy - noisy.mean() + 0.01, 0.9)


def test_too_few_held_out_requests_publish_nothing() -> None:
    none: Any = None
    verdict = judge(none, none, pa.table({"x": [1]}), none, [], GateConfig(), (1,))
    assert not verdict.published and "only 1 held-out" in verdict.reason
    assert verdict.as_dict()["ndcg"] is None


def test_small_losses_of_ndcg_do_not_add_up_over_rounds() -> None:
    gained_B, before_B = np.full(400, 0.1), np.full(400, 0.5)
    config, owed, published = GateConfig(ndcg_margin_share=0.1), 0.0, []
    for change in (-0.02, -0.02, -0.02, +0.03, -0.02):
        verdict = decide(gained_B, before_B, before_B + change, config, owed)
        published.append(verdict.published)
        owed = verdict.ndcg_owed if verdict.published else owed
    assert published == [True, True, False, True, True], "0.05 may be lost, and won back"
    assert owed == pytest.approx(0.03)
    assert "value NDCG@10" in decide(gained_B, before_B, before_B - 0.06, config).reason
    assert "log-likelihood" in decide(-gained_B, before_B, before_B + 0.1, config).reason


def test_what_lies_between_click_and_conversion_is_learnt_as_one_click(rounds: Rounds) -> None:
    rounds.run([request("r1", 1000, ["a", "b"])], [event("e1", "r1", "a", "click", 2000)])
    rounds.run([], [event("e2", "r1", "a", DEEP, 3000), event("e3", "r1", "b", DEEP, 3000)])
    found = fresh_samples([rounds.state], 2, 0)[0]
    assert [(sample.item_id, ACTIONS[sample.action]) for sample in found["u"]] == [("b", "click")]
    rounds.run([], [event("e4", "r1", "b", "conversion", 4000, price=3.0)])
    assert corrections_of([rounds.state], 3) == {("r1", "b")}


def test_a_request_whose_click_and_conversion_came_together_is_judged_and_asked(rounds: Rounds) -> None:
    both = sequence(["r1", "r1", "r2", "r3"], ["conversion", "click", "conversion", "click"], [NEW, NEW, NEW, HELD_OUT])
    assert [found.request_id for found in requests_of(both, NEW, "click")] == ["r1", "r2"]
    assert [found.request_id for found in requests_of(both, HELD_OUT, "click")] == ["r3"]
    assert requests_of(both, NEW, "click")[0].target_positions.tolist() == [0, 1]
    assert [found.request_id for found in requests_of(both, NEW, "conversion")] == ["r1", "r2"]


def test_a_users_worth_is_all_that_may_be_learnt_from() -> None:
    marks = [PAST, NEW, HELD_OUT, NEW]
    known = sequence(["r"] * 4, ["conversion"] * 3 + ["click"], marks)
    assert ad_value(known, known.split_H != HELD_OUT) == 1.0 + 2.0
    known.value_H[0] = np.nan
    assert ad_value(known, known.split_H != HELD_OUT) == 2.0


def sequence(requests: list[str], actions: list[str], marks: list[int]) -> UserSequence:
    """Events one after the other, worth 1, 2, 3, ..."""
    n = len(requests)
    return UserSequence(
        "u", np.array(marks, np.int8), np.array(requests, object), np.arange(n, dtype=np.int64),
        np.array([f"i{place}" for place in range(n)], object), np.full(n, AD, np.int8), np.array(["feed"] * n, object),
        np.array([ACTIONS.index(action) for action in actions], np.int8), np.arange(1, n + 1).astype(np.float32),
    )  # fmt: skip


def test_a_loop_without_new_logs_says_so_and_without_any_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config.parse({"work_dir": tmp_path})
    with pytest.raises(UserError, match=r"online\.events.*nothing was ever logged there"):
        run_rounds(config)
    (tmp_path / "serving" / "events").mkdir(parents=True)
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "CURRENT").write_text("v7\n")
    assert run_rounds(config) == []
    told = capsys.readouterr().out
    assert "no log file is new" in told and str(tmp_path / "serving" / "events") in told and "in force: v7" in told
