"""How values are spelled: each of the ways in which writers of logs put ids, moments, money and words into columns.

A spelling is a name. `spelled` gives the Python value of one cell; CSV writes its text, JSON and Parquet the value.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

IDS = ("event_id", "request_id", "user_id", "item_id")
MONEY = ("price", "bid", "ecpm", "weight", "stars")
WHOLE = ("position", "age")
ZONE = "Europe/Berlin"
COUNTED = {"s": "s", "s fraction": "s", "ms": "ms", "us": "us", "ns": "ns", "ms float": "ms"}
"""Moments as numbers: spelling to unit."""
WRITTEN = ("iso T", "iso blank", "iso Z", "iso offset", "iso zone", "iso 6", "iso 9", "compact")
"""Moments as text, down to the millisecond."""
SECONDS_ONLY = ("s", "iso short", "compact short")
ARROW_TIMES = {
    "ts ms": pa.timestamp("ms"), "ts us": pa.timestamp("us"), "ts ns": pa.timestamp("ns"),
    "ts us UTC": pa.timestamp("us", "UTC"), "ts ms zone": pa.timestamp("ms", ZONE), "ts naive zone": pa.timestamp("us"),
}  # fmt: skip
"""Arrow's own types; the last is a wall clock of ZONE without saying so."""
ARROW_TYPES = {
    "text": pa.string(), "large text": pa.large_string(), "bytes": pa.binary(), "integer": pa.int64(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()), "float": pa.float64(), "decimal": pa.decimal128(20, 4),
    "whole decimal": pa.decimal128(24, 0), "small": pa.int16(), "boolean": pa.bool_(), "number text": pa.string(),
    "null": pa.null(), "view": pa.string_view(), "unsigned": pa.uint64(),
}  # fmt: skip


def unit_of(spelling: str) -> str:
    """The timestamp_unit that a user sets for it."""
    return COUNTED.get(spelling, "iso" if spelling.startswith(("iso", "compact")) else "ms")


def spelled(column: str, value: Any, spelling: str) -> Any:
    """The cell of a value that is not None."""
    if column == "timestamp":
        return moment(value, spelling)
    if column in IDS:
        return _id(value, spelling)
    if spelling == "decimal":
        return Decimal(repr(value)).quantize(Decimal("0.0001"))
    if column in MONEY or column in WHOLE:
        return repr(value) if spelling == "number text" else float(value) if spelling == "float" else int(value)
    if column == "mobile":
        truth: dict[str, Any] = {"boolean": value, "text": "true" if value else "false", "small": int(value)}
        return truth[spelling]
    return value.encode() if spelling == "bytes" else value


def arrow_type(column: str, spelling: str) -> pa.DataType:
    """The type of a Parquet column in that spelling."""
    if column != "timestamp":
        return ARROW_TYPES[spelling]
    if spelling in ARROW_TIMES:
        return ARROW_TIMES[spelling]
    if spelling in ("s fraction", "ms float"):
        return pa.float64()
    return pa.int64() if spelling in COUNTED else pa.string()


def moment(ms: int, spelling: str) -> Any:
    """A moment as a number, as text, or as what Arrow makes its own type of."""
    match spelling:
        case "s":
            return ms // 1000
        case "s fraction":
            return ms / 1000
        case "ms float":
            return float(ms)
        case "us" | "ns":
            return ms * (1000 if spelling == "us" else 1_000_000)
        case "ms":
            return ms
    utc = dt.datetime.fromtimestamp(ms // 1000, dt.UTC).replace(microsecond=ms % 1000 * 1000)
    wall = utc.astimezone(ZoneInfo(ZONE))
    if spelling in ARROW_TIMES:
        return wall.replace(tzinfo=None) if spelling == "ts naive zone" else utc
    return _written(utc, wall, spelling)


def _written(utc: dt.datetime, wall: dt.datetime, spelling: str) -> str:
    naive = utc.replace(tzinfo=None)
    fraction = f"{utc.microsecond // 1000:03d}"
    forms = {
        "iso T": naive.isoformat(timespec="milliseconds"),
        "iso blank": naive.isoformat(" ", timespec="milliseconds"),
        "iso Z": naive.isoformat(timespec="milliseconds") + "Z",
        "iso offset": wall.isoformat(timespec="milliseconds"),
        "iso zone": wall.replace(tzinfo=None).isoformat(timespec="milliseconds"),
        "iso 6": naive.isoformat(timespec="microseconds") + " UTC",
        "iso 9": f"{naive:%Y-%m-%dT%H:%M:%S}.{fraction}999999Z",
        "iso short": f"{naive:%Y-%m-%d %H:%M:%S}",
        "compact": f"{naive:%Y%m%d%H%M%S}{fraction}",
        "compact short": f"{naive:%Y%m%dT%H%M%SZ}",
    }
    return forms[spelling]


def _id(text: str, spelling: str) -> Any:
    match spelling:
        case "integer" | "unsigned":
            return int(text)
        case "float":
            return float(text)
        case "whole decimal":
            return Decimal(text)
        case "bytes":
            return text.encode()
    return text
