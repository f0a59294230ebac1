"""Arrival schedules: when requests are sent, fixed in advance, so that a slow answer never lowers the load offered.

Every schedule is an array of rising times in milliseconds from its start, and is the same for the same seed.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from adbeam.errors import UserError


def constant(rate_per_second: float, seconds: float) -> np.ndarray:
    """Evenly spaced arrivals."""
    _check(rate_per_second, seconds)
    return np.arange(int(rate_per_second * seconds)) * (1000.0 / rate_per_second)


def poisson(rate_per_second: float, seconds: float, seed: int = 0) -> np.ndarray:
    """Poisson arrivals at a steady rate."""
    return steps([(rate_per_second, seconds)], seed)


def steps(plateaus: list[tuple[float, float]], seed: int = 0) -> np.ndarray:
    """Poisson arrivals over consecutive plateaus of (rate_per_second, seconds)."""
    for rate, seconds in plateaus:
        _check(rate, seconds, zero_rate=True)
    rates = np.array([rate for rate, _ in plateaus])
    lengths_ms = np.array([1000.0 * seconds for _, seconds in plateaus])
    return _poisson_in_bins(rates * lengths_ms / 1000.0, lengths_ms, seed)


def step(
    base_per_second: float,
    factor: float,
    before_seconds: float,
    during_seconds: float,
    after_seconds: float,
    seed: int = 0,
) -> np.ndarray:
    """Poisson arrivals at a base rate with one step to `factor` times it."""
    plateaus = [(base_per_second, before_seconds), (base_per_second * factor, during_seconds)]
    return steps([*plateaus, (base_per_second, after_seconds)], seed)


def ramp(start_per_second: float, end_per_second: float, seconds: float, seed: int = 0) -> np.ndarray:
    """Poisson arrivals whose rate changes in a straight line, in slices of 100 ms."""
    _check(max(start_per_second, end_per_second), seconds)
    slices = max(1, round(seconds * 10))
    middle = (np.arange(slices) + 0.5) / slices
    expected = (start_per_second + (end_per_second - start_per_second) * middle) * seconds / slices
    return _poisson_in_bins(expected, np.full(slices, 1000.0 * seconds / slices), seed)


def replay_counts(
    counts: np.ndarray, seconds_per_count: float, peak_per_second: float | None = None, seed: int = 0
) -> np.ndarray:
    """Poisson arrivals from counts per interval, each interval played in `seconds_per_count`; scaled so that the
    busiest interval has `peak_per_second` (None: the counts as they are)."""
    counts = np.asarray(counts, dtype=float)
    _check(seconds_per_count, 1.0)
    if len(counts) == 0 or counts.max() <= 0:
        raise UserError("the trace holds no request", field="trace")
    if peak_per_second is not None:
        counts = counts * (peak_per_second * seconds_per_count / counts.max())
    return _poisson_in_bins(counts, np.full(len(counts), 1000.0 * seconds_per_count), seed)


def replay_times(times_ms: np.ndarray, speed: float = 1.0) -> np.ndarray:
    """Recorded arrival times, from zero, played `speed` times as fast."""
    _check(speed, 1.0)
    times_ms = np.sort(np.asarray(times_ms, dtype=float))
    return (times_ms - times_ms[0]) / speed if len(times_ms) else times_ms


def read_counts(path: str | Path, start: str | None = None, end: str | None = None) -> np.ndarray:
    """Requests per minute from a CSV (or .csv.gz) with `period` (UTC minute) and `count`; missing minutes count 0.

    `start` and `end` ("1998-05-12 06:00:00") bound the minutes taken, `end` excluded. Raises UserError on a file that
    has other columns or no minute in the range.
    """
    table = _read_csv(path, ("period", "count"))
    minute = table["period"].cast(pa.timestamp("s")).to_numpy().astype("datetime64[m]").astype(np.int64)
    count = table["count"].to_numpy().astype(float)
    first = minute.min() if start is None else np.datetime64(start.replace(" ", "T"), "m").astype(np.int64)
    last = minute.max() + 1 if end is None else np.datetime64(end.replace(" ", "T"), "m").astype(np.int64)
    inside = (minute >= first) & (minute < last)
    if not inside.any():
        raise UserError(f"{path} has no minute from {start} to {end}", field="trace", remedy="choose another range")
    counts = np.zeros(int(last - first))
    np.add.at(counts, minute[inside] - first, count[inside])
    return counts


def read_times(path: str | Path) -> np.ndarray:
    """Arrival times in ms, from zero, of a CSV (or .csv.gz) whose TIMESTAMP column holds one arrival a row."""
    stamps = _read_csv(path, ("TIMESTAMP",))["TIMESTAMP"].cast(pa.timestamp("ns")).to_numpy()
    times_ms: np.ndarray = np.sort(stamps.astype("datetime64[ns]").astype(np.int64)) / 1e6
    times_ms = times_ms - times_ms[0]
    return times_ms


def _read_csv(path: str | Path, columns: tuple[str, ...]) -> pa.Table:
    path = Path(path)
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        table = pa_csv.read_csv(io.BytesIO(raw))
    except (OSError, EOFError, pa.ArrowInvalid) as error:
        raise UserError(f"cannot read the trace {path}: {error}", field="trace") from None
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise UserError(f"the trace {path} lacks columns", field="trace", value=missing, remedy=f"it needs {columns}")
    return table


def _poisson_in_bins(expected: np.ndarray, lengths_ms: np.ndarray, seed: int) -> np.ndarray:
    """Uniform times inside bins that hold Poisson(`expected`) arrivals each."""
    random = np.random.default_rng(seed)
    counts = random.poisson(expected)
    starts_ms = np.concatenate([[0.0], np.cumsum(lengths_ms)[:-1]])
    times_ms = np.repeat(starts_ms, counts) + random.random(int(counts.sum())) * np.repeat(lengths_ms, counts)
    return np.sort(times_ms)


def _check(rate_per_second: float, seconds: float, zero_rate: bool = False) -> None:
    if rate_per_second < 0 or (rate_per_second == 0 and not zero_rate):
        raise UserError("a rate must be positive", field="rate_per_second", value=rate_per_second)
    if seconds <= 0:
        raise UserError("a duration must be positive", field="seconds", value=seconds)
