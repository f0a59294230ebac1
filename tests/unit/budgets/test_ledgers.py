"""The ledger of budgets in SQLite and in a real Redis: counted once, shared, kept; and days that turn in their zone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.redis_server import free_port, redis_server
from typer.testing import CliRunner

from adbeam.budgets.config import BudgetsConfig
from adbeam.budgets.ledger import Account, Budget, Ledger, Spending, day_of, share_of_day
from adbeam.budgets.open_ledger import open_ledger
from adbeam.cli.root import app
from adbeam.errors import UserError

DAY, NEXT = "2026-05-01", "2026-05-02"
Open = Callable[[], Ledger]


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis"), free_port()) as url:
        yield f"{url}/0"


@pytest.fixture(params=["sqlite", "redis"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    settings: dict[str, Any] = {"path": tmp_path / "budgets.sqlite"}
    if request.param == "redis":
        settings = {"redis_url": request.getfixturevalue("redis_url"), "redis_key": tmp_path.name}
    opened: list[Ledger] = []

    def open_again() -> Ledger:
        ledger = open_ledger(BudgetsConfig.parse(settings))
        assert ledger is not None
        opened.append(ledger)
        return ledger

    yield open_again
    for ledger in opened:
        ledger.close()


def _spent(event_id: str, money: float, campaign: str = "spring", day: str = DAY) -> Spending:
    return Spending(event_id, campaign, money, day)


def test_an_event_counts_once_whoever_tells_of_it(open_one: Open) -> None:
    one, other = open_one(), open_one()
    one.set("spring", Budget(day=10, total=100))
    assert one.spend([_spent("a", 1.5), _spent("b", 2.0), _spent("a", 1.5)]) == 2
    assert other.spend([_spent("b", 2.0), _spent("c", 0.25, day=NEXT)]) == 1
    assert other.spend([]) == 0
    account = open_one().accounts(DAY, 0)["spring"]
    assert (account.today, account.total, account.reserved) == (3.5, 3.75, 0.0)
    assert account.budget == Budget(day=10, total=100)
    assert one.accounts(NEXT, 0)["spring"].today == 0.25


def test_many_writers_lose_nothing(open_one: Open) -> None:
    ledgers = [open_one() for _ in range(4)]
    ledgers[0].set("spring", Budget(total=1e6))

    def write(place: int) -> None:
        for number in range(50):  # half of the ids are told twice
            ledgers[place].spend([_spent(f"{(place // 2)}-{number}", 1.0)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert ledgers[0].accounts(DAY, 0)["spring"].total == 100.0


def test_what_replicas_hold_back_is_added_up_and_runs_out(open_one: Open) -> None:
    one, other = open_one(), open_one()
    one.set("spring", Budget(day=10))
    one.reserve("r1", {"spring": 1.0, "unknown": 5.0}, 2000)
    other.reserve("r2", {"spring": 2.5}, 3000)
    assert one.accounts(DAY, 1000)["spring"].reserved == 3.5
    one.reserve("r1", {"spring": 0.5}, 2000)
    assert other.accounts(DAY, 1000)["spring"].reserved == 3.0
    assert one.accounts(DAY, 2000)["spring"].reserved == 2.5
    one.reserve("r1", {}, 9000)
    assert one.accounts(DAY, 3000)["spring"].reserved == 0.0


def test_a_budget_may_be_replaced_and_taken_away(open_one: Open) -> None:
    ledger = open_one()
    ledger.set("spring", Budget(day=10))
    ledger.spend([_spent("a", 4.0)])
    ledger.set("spring", Budget(total=5, day=5, pacing="even"))
    assert ledger.accounts(DAY, 0)["spring"].budget.pacing == "even"
    ledger.set("spring", None)
    ledger.set("never", None)
    assert ledger.accounts(DAY, 0) == {}
    ledger.set("spring", Budget(total=5))
    assert ledger.accounts(DAY, 0)["spring"].total == 4.0


def test_what_is_left_is_the_least_that_any_bound_leaves() -> None:
    assert Account(Budget(day=10), today=4, reserved=1).left(0.1) == 5
    assert Account(Budget(day=10, total=20), today=4, total=19).left(0.5) == 1
    assert Account(Budget(day=10, pacing="even"), today=4).left(0.5) == 1
    assert Account(Budget(day=10, pacing="even"), today=4).left(0.25) == -1.5
    assert Account(Budget(total=3), today=9, total=3).left(1.0) == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"day": 0}, "day"), ({"day": -1}, "day"), ({"total": -5}, "total"), ({"total": float("nan")}, "total"),
        ({"day": 1e13}, "day"), ({}, "day, total, or both"), ({"total": 5, "pacing": "even"}, "give day"),
        ({"day": 5, "pacing": "slow"}, "pacing"), ({"hour": 5, "day": 5}, "hour"),
    ],
)  # fmt: skip
def test_a_budget_that_is_none_is_refused_by_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Budget.parse(values)


def test_days_turn_in_their_zone_also_where_they_are_longer() -> None:
    moment = int(datetime(2026, 4, 30, 22, 30, tzinfo=UTC).timestamp() * 1000)
    assert day_of(moment, "UTC") == "2026-04-30" and day_of(moment, "Europe/Berlin") == "2026-05-01"
    assert share_of_day(moment, "Europe/Berlin") == pytest.approx(0.5 / 24)
    longer = int(datetime(2026, 10, 25, 22, 59, 59, 999_000, tzinfo=UTC).timestamp() * 1000)
    assert share_of_day(longer, "Europe/Berlin") == pytest.approx(1.0) and share_of_day(longer, "Europe/Berlin") < 1
    assert share_of_day(longer - 25 * 3_600_000 + 1, "Europe/Berlin") == pytest.approx(0.0, abs=1e-6)


def test_a_ledger_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database at all, and longer than a header of one would be" * 20)
    with pytest.raises(UserError, match="no ledger of budgets"):
        open_ledger(BudgetsConfig(path=tmp_path / "text"))
    with pytest.raises(UserError, match="does not answer"):
        open_ledger(BudgetsConfig(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    with pytest.raises(UserError, match="not both"):
        BudgetsConfig.parse({"path": "x", "redis_url": "redis://x"})
    with pytest.raises(UserError, match="no such time zone"):
        BudgetsConfig.parse({"path": "x", "timezone": "Europe/Bonn"})
    assert open_ledger(BudgetsConfig()) is None


def test_the_command_line_sets_and_lists_budgets(tmp_path: Path) -> None:
    place = ["--budgets", str(tmp_path / "b.sqlite")]

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["campaigns", *words, *place])

    assert run("set", "spring", "--day", "100", "--total", "1000", "--pacing", "even").exit_code == 0
    assert run("set", "summer", "--total", "50").exit_code == 0
    listed = run("list").output
    assert "spring\t0.00\t100.00\t0.00\t1000.00\t0.00\teven" in listed and "summer\t0.00\tany" in listed
    assert run("remove", "spring").exit_code == 0 and "spring" not in run("list").output
    assert "day" in str(run("set", "spring", "--day", "-1").exception)
    assert "day, total, or both" in str(run("set", "spring").exception)


def test_the_traffic_of_replicas_is_added_up_by_day_and_hour(open_one: Open) -> None:
    one, other = open_one(), open_one()
    for ledger, day, hour, requests in ((one, DAY, 7, 3), (other, DAY, 7, 4), (one, DAY, 23, 1), (one, NEXT, 0, 5)):
        ledger.saw(day, hour, requests)
    assert other.traffic([DAY, NEXT, "2026-05-03"]) == {DAY: {7: 7, 23: 1}, NEXT: {0: 5}}
    assert open_one().traffic([NEXT]) == {NEXT: {0: 5}}
