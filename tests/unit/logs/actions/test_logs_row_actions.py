"""Rows that carry several actions as flags or moments become one event for each, and the account explains them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import describe, run
from adbeam.logs.prepared import PreparedLog

DAY = 86_400_000
START = 1_740_787_200_000  # 2025-03-01
ACTIONS = {"click": "is_click", "conversion": "converted_at"}
HEAD = "user_id,timestamp,item_id,is_click,converted_at,price"


def row(user: str, day: int, click: Any = "", conversion: Any = "", price: Any = "", item: str = "a") -> list[Any]:
    return [user, START + day * DAY, item, click, conversion, price]


ROWS = [
    row("u1", 0, 1, START + 1_000, 12.5),
    row("u1", 10, 0, "", 3),
    row("u2", 0, "true", "", ""),
    row("u2", 20, "FALSE", START + 21 * DAY, 7),
    row("u3", 11, "", START + 12 * DAY, 1),
]


def settings(tmp_path: Path, rows: list[list[Any]], head: str = HEAD, **events: Any) -> LogsConfig:
    (tmp_path / "log.csv").write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    table = {"path": str(tmp_path / "log.csv"), "actions": ACTIONS, "constants": {"action": "impression"}, **events}
    split = {"by": "time", "validation_from": START + 10 * DAY, "test_from": START + 20 * DAY}
    return LogsConfig.parse({"source": "files", "files": {"events": table, "catalogue": "from_log"}, "split": split})


def prepare(tmp_path: Path, logs: LogsConfig) -> PreparedLog:
    return run(SimpleNamespace(work_dir=tmp_path / "run", logs=logs), in_process=True)


def events_of(log: PreparedLog) -> list[dict[str, Any]]:
    rows = pa.concat_tables([pq.read_table(file) for file in log.events()]).to_pylist()
    return sorted(rows, key=lambda event: (event["user_id"], event["timestamp"], event["action"]))


def told(log: PreparedLog) -> list[tuple[Any, ...]]:
    return [(event["user_id"], event["timestamp"] - START, event["action"], event["price"]) for event in events_of(log)]


def test_flags_are_events_at_the_rows_moment_and_moments_at_their_own(tmp_path: Path) -> None:
    log = prepare(tmp_path, settings(tmp_path, ROWS))
    assert told(log) == [
        ("u1", 0, "click", None),
        ("u1", 0, "impression", None),
        ("u1", 1_000, "conversion", 12.5),
        ("u1", 10 * DAY, "impression", None),
        ("u2", 0, "click", None),
        ("u2", 0, "impression", None),
        ("u2", 20 * DAY, "impression", None),
        ("u2", 21 * DAY, "conversion", 7),
        ("u3", 11 * DAY, "impression", None),
        ("u3", 12 * DAY, "conversion", 1),
    ]
    account = log.account
    assert (account["rows_in"], account["more_events"], account["kept"], account["quarantined"]) == (5, 5, 10, 0)
    assert "without_event" not in account


def test_the_events_of_a_row_are_one_request(tmp_path: Path) -> None:
    first = [event for event in events_of(prepare(tmp_path, settings(tmp_path, ROWS))) if event["user_id"] == "u1"][:3]
    assert {event["request_id"] for event in first} == {f"u1@{START}"}


def test_rows_that_are_no_event_themselves_give_only_their_actions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = prepare(tmp_path, settings(tmp_path, ROWS, constants={}))
    assert [action for _, _, action, _ in told(log)] == ["click", "conversion", "click", "conversion", "conversion"]
    account = log.account
    assert (account["rows_in"], account["more_events"], account["without_event"], account["kept"]) == (5, 1, 1, 5)
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert "+ further events of these rows 1" in lines
    assert "- rows without an event 1" in lines


def test_an_action_that_the_row_itself_is_counts_once(tmp_path: Path) -> None:
    log = prepare(tmp_path, settings(tmp_path, ROWS, constants={"action": "click"}))
    assert [action for user, _, action, _ in told(log) if user == "u1"] == ["click", "conversion", "click"]


@pytest.mark.parametrize("bad", ["maybe", "2", "-3", "1e400"])
def test_a_row_with_an_unreadable_flag_is_quarantined_whole(tmp_path: Path, bad: str) -> None:
    rows = [*ROWS, *(row(f"v{n}", n, 1) for n in range(10)), row("w", 3, bad, START + 4 * DAY)]
    log = prepare(tmp_path, settings(tmp_path, rows))
    (refused,) = log.quarantine().to_pylist()
    assert refused["reason"].startswith("actions.click is neither a flag nor a moment")
    assert json.loads(refused["row"])["actions.click"] == bad
    assert "w" not in {user for user, *_ in told(log)}
    account = log.account
    assert account["rows_in"] + account["more_events"] == account["kept"] + account["quarantined"]


def test_ids_of_the_log_stay_the_rows_own_and_repeated_rows_count_once(tmp_path: Path) -> None:
    rows = [[f"e{number}" if number else "x" * 125, *told] for number, told in enumerate(ROWS)]
    log = prepare(tmp_path, settings(tmp_path, [*rows, rows[1], rows[0]], f"event_id,{HEAD}"))
    ids = [event["event_id"] for event in events_of(log)]
    assert len(set(ids)) == len(ids) == 10
    assert {"e1", "e2", "e2:click", "e3", "e3:conversion", "e4", "e4:conversion", "x" * 125} < set(ids)
    account = log.account
    assert (account["rows_in"], account["duplicates"], account["quarantined"]) == (7, 4, 0)
    assert account["rows_in"] + account["more_events"] == account["kept"] + account["duplicates"]


@pytest.mark.parametrize("user", ["u1", "u" * 300])
def test_a_long_user_is_one_request_too(tmp_path: Path, user: str) -> None:
    log = prepare(tmp_path, settings(tmp_path, [*ROWS[1:], row(user, 0, 0, START + 5)]))
    events = [event for event in events_of(log) if event["timestamp"] < START + DAY and event["user_id"] != "u2"]
    assert len({event["request_id"] for event in events}) == 1
    assert [event["action"] for event in events] == ["impression", "conversion"]


@pytest.mark.parametrize("timestamps", [pa.int64(), pa.timestamp("us", "UTC"), pa.float64()])
@pytest.mark.parametrize("flags", [pa.bool_(), pa.int8(), pa.float64(), pa.decimal128(3, 0), pa.string()])
def test_columns_of_other_types_mean_the_same(tmp_path: Path, timestamps: pa.DataType, flags: pa.DataType) -> None:
    columns = list(zip(*ROWS, strict=True))
    words = [str(value).lower() in ("1", "true") for value in columns[3]]
    moments = pa.array([value or None for value in columns[4]], pa.int64())
    moments = (
        moments.cast(pa.timestamp("ms")).cast(pa.timestamp("us", "UTC"))
        if pa.types.is_timestamp(timestamps)
        else moments
    )
    flag = pa.array(words).cast(pa.int8()).cast(flags) if not pa.types.is_string(flags) else pa.array(words).cast(flags)
    table = {
        "user_id": columns[0],
        "timestamp": pa.array(columns[1], pa.int64()),
        "item_id": columns[2],
        "is_click": flag,
        "converted_at": moments.cast(timestamps),
        "price": pa.array([None if value == "" else float(value) for value in columns[5]]),
    }
    (tmp_path / "csv").mkdir()
    want = told(prepare(tmp_path / "csv", settings(tmp_path / "csv", ROWS)))
    logs = settings(tmp_path, ROWS, path=str(tmp_path / "log.parquet"))
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    assert told(prepare(tmp_path, logs)) == want


def test_json_leaves_out_what_is_nothing_and_moments_may_be_written(tmp_path: Path) -> None:
    lines = [
        {"user_id": "u1", "timestamp": "2025-03-01T00:00:00Z", "item_id": "a", "done": {"click": True}},
        {
            "user_id": "u1",
            "timestamp": "2025-03-12T00:00:00Z",
            "item_id": "a",
            "done": {"order": "2025-03-12 00:00:01"},
        },
        {"user_id": "u1", "timestamp": "2025-03-25T00:00:00Z", "item_id": "a"},
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    logs = settings(
        tmp_path,
        [],
        path=str(tmp_path / "log.jsonl"),
        actions={"click": "done.click", "conversion": "done.order"},
        timestamp_unit="iso",
    )
    moments = [(action, at) for _, at, action, _ in told(prepare(tmp_path, logs))]
    later = [("impression", 11 * DAY), ("conversion", 11 * DAY + 1_000), ("impression", 24 * DAY)]
    assert moments == [("click", 0), ("impression", 0), *later]


def test_a_column_of_an_action_that_is_not_there_is_refused(tmp_path: Path) -> None:
    logs = settings(tmp_path, ROWS, actions={"click": "clicked"})
    with pytest.raises(UserError, match=r"events\.actions\.click: .*no column 'clicked'"):
        prepare(tmp_path, logs)


def test_a_log_without_any_action_is_refused(tmp_path: Path) -> None:
    logs = settings(tmp_path, [row("u1", 0), row("u1", 20)], constants={})
    with pytest.raises(UserError, match=r"actions: no row has an action"):
        prepare(tmp_path, logs)


def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'x' stands for 2 actions"):
        settings(tmp_path, ROWS, actions={"click": "x", "conversion": "x"})
    with pytest.raises(UserError, match="'impression', 'click', 'deep' or 'conversion'"):
        settings(tmp_path, ROWS, actions={"order": "x"})
    plain = settings(tmp_path, ROWS).model_dump(mode="json")
    plain["files"]["catalogue"] = {"path": "ads.csv", "actions": {"click": "x"}}
    with pytest.raises(UserError, match=r"catalogue\.actions: only events"):
        LogsConfig.parse(plain)


def test_a_log_that_names_no_actions_keeps_its_fingerprint(tmp_path: Path) -> None:
    logs = settings(tmp_path, ROWS, actions={})
    assert logs.files is not None
    assert "actions" not in logs.files.events.model_dump(mode="json")
    other = settings(tmp_path, ROWS)
    assert describe(logs, [])["fingerprint"] != describe(other, [])["fingerprint"]
