"""Moments in the forms, units and zones that logs come with."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from adbeam.logs.config import TableConfig
from adbeam.logs.times.moments import to_milliseconds

MOMENT = datetime(2025, 3, 1, 8, 15, 0, 123000, UTC)
MS = round(MOMENT.timestamp() * 1000)
SECOND_MS = MS - 123


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-03-01T08:15:00.123", MS),
        ("2025-03-01T08:15:00.123999999", MS),
        ("2025-03-01 08:15:00.123456789 UTC", MS),
        ("2025-03-01T08:15:00,123", MS),
        ("20250301081500123", MS),
        ("20250301T081500.123Z", MS),
        ("20250301T091500.123+0100", MS),
        ("2025-03-01 08:15:00 UTC", SECOND_MS),
        ("2025-03-01 09:15:00 +01:00", SECOND_MS),
        ("20250301T081500Z", SECOND_MS),
        ("202503010815", SECOND_MS),
        (" 2025-03-01t08:15:00z ", SECOND_MS),
        ("20250301", SECOND_MS - (8 * 60 + 15) * 60_000),
    ],
)
def test_written_moments(text: str, expected: int) -> None:
    moments, bad = to_milliseconds(pa.array(["2025-03-01T08:15:00", text, None]), "timestamp", "iso")
    assert moments.to_pylist() == [SECOND_MS, expected, None] and not bad.any()


@pytest.mark.parametrize("text", ["01/03/2025", "2025-02-30", "20251301", "1740816900", "1740816900123", "noon", ""])
def test_what_is_no_written_moment(text: str) -> None:
    moments, bad = to_milliseconds(pa.array([text, "20250301T081500Z"]), "timestamp", "iso")
    assert bad.tolist() == [True, False] and moments.to_pylist() == [None, SECOND_MS]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.string(), pa.float64()])
def test_counts_are_exact_in_every_unit_and_type(unit: str, kind: pa.DataType) -> None:
    parts = {"ms": 1, "us": 10**3, "ns": 10**6}[unit]
    counts = [(MS + step) * parts + (parts - 1 if kind != pa.float64() else 0) for step in range(0, 1000, 7)]
    moments, bad = to_milliseconds(pa.array(counts).cast(kind, safe=False), "timestamp", unit)
    assert moments.to_pylist() == [MS + step for step in range(0, 1000, 7)] and not bad.any()


def test_whole_numbers_may_be_written_moments() -> None:
    moments, bad = to_milliseconds(pa.array([20250301081500123, None, 5]), "timestamp", "iso")
    assert moments.to_pylist() == [MS, None, None] and bad.tolist() == [False, False, True]


def test_times_without_a_zone_are_those_of_the_setting() -> None:
    text = pa.array(
        ["2025-03-01T09:15:00.123", "2025-03-01T08:15:00.123Z", "2025-10-26T02:30:00", "2025-03-30T02:30:00"]
    )
    moments, bad = to_milliseconds(text, "timestamp", "iso", "Europe/Berlin")
    first_of_two, after_the_gap = (
        datetime.fromisoformat(day) for day in ("2025-10-26T00:30+00:00", "2025-03-30T01:00+00:00")
    )
    expected = [MS, MS, *(round(day.timestamp() * 1000) for day in (first_of_two, after_the_gap))]
    assert moments.to_pylist() == expected and not bad.any()
    naive = pa.array([datetime(2025, 3, 1, 9, 15, 0, 123000)], pa.timestamp("ns"))
    assert to_milliseconds(naive, "timestamp", "ms", "Europe/Berlin")[0].to_pylist() == [MS]
    assert to_milliseconds(pa.array([MOMENT]), "timestamp", "ms", "Europe/Berlin")[0].to_pylist() == [MS]


def test_a_zone_nobody_knows_is_refused_where_it_is_declared() -> None:
    with pytest.raises(Exception, match="no such time zone"):
        TableConfig.parse({"path": "log.csv", "timezone": "Europe/Berlino"})
