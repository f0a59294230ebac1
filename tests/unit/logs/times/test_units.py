"""A wrong timestamp_unit is found where another one makes every moment plausible, and only there."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.support.samples import write_sample_log

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.times.units import NO_UNIT, plausible_unit, refuse_wrong_unit

NOW_MS = 1_760_000_000_000
SECONDS = [1_740_816_900 + 3600 * step for step in range(50)]
COUNTS = {
    unit: [second * parts + 7 for second in SECONDS]
    for unit, parts in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
}
WRITTEN = [datetime.fromtimestamp(second).strftime("%Y%m%d%H%M%S") for second in SECONDS]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("declared", ["s", "ms", "us", "ns", "iso"])
@pytest.mark.parametrize("real", ["s", "ms", "us", "ns"])
def test_the_unit_that_counts_are_in_is_found(real: str, declared: str, as_text: bool) -> None:
    values = pa.array(COUNTS[real])
    assert plausible_unit(values.cast(pa.string()) if as_text else values, declared, NOW_MS) == real


@pytest.mark.parametrize("declared", ["s", "ms", "us", "ns", "iso"])
def test_written_moments_are_found(declared: str) -> None:
    assert plausible_unit(pa.array(WRITTEN), declared, NOW_MS) == "iso"
    assert plausible_unit(pa.array([int(text) for text in WRITTEN]), declared, NOW_MS) == "iso"
    assert plausible_unit(pa.array(["2025-03-01T08:15:00", "2025-03-01 08:15:00 UTC"]), declared, NOW_MS) == "iso"


def test_floats_bytes_and_dictionaries_are_looked_into_too() -> None:
    assert plausible_unit(pa.array(COUNTS["s"], pa.float64()), "ms", NOW_MS) == "s"
    assert plausible_unit(pa.array([b"1740816900"]), "ms", NOW_MS) == "s"
    assert plausible_unit(pa.array(COUNTS["ns"]).dictionary_encode(), "us", NOW_MS) == "ns"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (list(range(50)), NO_UNIT),  # relative times
        ([*range(50), *COUNTS["s"]], NO_UNIT),
        ([*COUNTS["s"], 5], NO_UNIT),
        ([*COUNTS["s"], COUNTS["ms"][0]], "ms"),  # what is declared fits some
        ([*COUNTS["s"], 0, -1, None], "s"),  # what stands for no time says nothing
        ([0, -1, None], None),
        ([], None),
        ([4_102_444_800_000], NO_UNIT),  # the year 2100
        (["yesterday"], NO_UNIT),
        ([datetime(1970, 1, 20)], None),
        ([[1], [2]], None),
    ],
)
def test_what_is_not_sure_is_left_alone(values: list[Any], found: str | None) -> None:
    assert plausible_unit(pa.array(values), "ms", NOW_MS) == found


def test_a_part_that_fits_no_unit_makes_all_of_them_doubtful() -> None:
    refuse_wrong_unit(Counter({"s": 3, NO_UNIT: 1}), "ms", "field", NOW_MS)
    refuse_wrong_unit(Counter({"ms": 3}), "ms", "field", NOW_MS)
    refuse_wrong_unit(Counter(), "ms", "field", NOW_MS)
    with pytest.raises(UserError, match=r"the moments of 3 of the 5 parts .*write all files in one unit"):
        refuse_wrong_unit(Counter({"s": 3, "ms": 2}), "ms", "field", NOW_MS)


def prepare(folder: Path, divide: int, unit: str) -> PreparedLog:
    sample = write_sample_log(folder, users=4, items=20)
    events = pq.read_table(sample.events)
    moments = pc.divide(events["timestamp"], divide) if divide > 0 else pc.multiply(events["timestamp"], -divide)
    pq.write_table(events.set_column(3, "timestamp", moments), sample.events)
    files = sample.settings["files"] | {"events": {"path": str(sample.events), "timestamp_unit": unit}}
    logs = LogsConfig.parse(sample.settings | {"files": files, "batch_rows": 50})
    return run(SimpleNamespace(work_dir=folder, logs=logs), in_process=True)


@pytest.mark.parametrize(
    ("divide", "real", "declared"), [(1000, "s", "ms"), (-1000, "us", "ms"), (-(10**6), "ns", "us")]
)
def test_a_log_in_another_unit_is_refused_and_told_it(tmp_path: Path, divide: int, real: str, declared: str) -> None:
    told = (
        rf"logs\.files\.events\.timestamp_unit: the moments lie outside.*got '{declared}'; set timestamp_unit: {real}$"
    )
    with pytest.raises(UserError, match=told):
        prepare(tmp_path, divide, declared)
    assert prepare(tmp_path / "right", divide, real).account["kept"] > 0


def test_the_account_shows_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account = prepare(tmp_path, 1, "ms").account
    assert account["files_read"] == 2
    assert account["bytes_read"] == sum(
        (tmp_path / f"{name}.parquet").stat().st_size for name in ("events", "catalogue")
    )
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("files read", "bytes read", "first moment", "last moment"))
