"""What a log's impressions are is declared, and the prepared log tells it to every later step."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.click_log import prepare_without_conversions
from tests.support.samples import SampleLog, write_sample_log

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import describe, run
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.sources.registry import open_source


def prepare(work_dir: Path, sample: SampleLog, **files: Any) -> PreparedLog:
    return run(SimpleNamespace(work_dir=work_dir, logs=settings_of(sample, **files)), in_process=True)


def settings_of(sample: SampleLog, **files: Any) -> LogsConfig:
    return LogsConfig.parse(sample.settings | {"files": sample.settings["files"] | files})


def weighted(sample: SampleLog) -> dict[str, Any]:
    """Adds a column of weights to the log; returns settings that declare it."""
    events = pq.read_table(sample.events)
    pq.write_table(events.append_column("kept", pa.array([4.0] * len(events))), sample.events)
    return {"events": {"path": str(sample.events), "features": {"kept": "number"}}, "impression_weight": "kept"}


def test_impressions_of_files_are_all_there_are_unless_declared(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path / "sample", users=4, items=12)
    prepared = prepare(tmp_path, sample)
    assert (prepared.impressions, prepared.impression_weight) == ("all", None)
    assert prepare(tmp_path, sample, impressions="sampled").impressions == "sampled"
    prepared = prepare(tmp_path, sample, **weighted(sample))
    assert (prepared.impressions, prepared.impression_weight) == ("weighted", "kept")


def test_a_log_without_impressions_says_so(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path / "sample", users=4, items=12)
    events = pq.read_table(sample.events)
    pq.write_table(events.filter(pa.compute.not_equal(events["action"], "impression")), sample.events)
    assert prepare(tmp_path, sample).impressions == "none"
    assert prepare_without_conversions(tmp_path / "clicks", users=4, items=12).impressions == "all"


def test_the_impressions_of_complete_journey_are_no_count_of_showings() -> None:
    assert open_source(LogsConfig()).impressions == "sampled"


@pytest.mark.parametrize(("source", "said"), [("files", "all"), ("completejourney", "sampled")])
def test_a_log_that_an_older_version_prepared_is_known_by_its_source(tmp_path: Path, source: str, said: str) -> None:
    account = {"actions": {"impression": 3, "conversion": 1}}
    assert PreparedLog(tmp_path, {"source": source}, account).impressions == said
    assert PreparedLog(tmp_path, {"source": source}, {"actions": {"conversion": 1}}).impressions == "none"


def test_the_defaults_leave_a_log_the_fingerprint_it_had(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=4, items=12)
    plain = settings_of(sample)
    dumped = json.loads(plain.model_dump_json(exclude={"currency"}))
    assert {"impressions", "impression_weight"} <= dumped["files"].keys()
    print_of = [
        describe(settings_of(sample, **files), [])["fingerprint"]
        for files in ({}, {"impressions": "all", "impression_weight": None}, {"impressions": "sampled"})
    ]
    assert print_of[0] == print_of[1] != print_of[2]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"impression_weight": "kept"}, "no number column of events.features: add kept: number"),
        ({"impressions": "some"}, "'all' or 'sampled'"),
        ({"impressions": "sampled", "impression_weight": "price"}, "no number column"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(tmp_path: Path, files: dict[str, Any], told: str) -> None:
    sample = write_sample_log(tmp_path, users=4, items=12)
    with pytest.raises(UserError, match=told):
        settings_of(sample, **files)


def test_weights_and_no_rates_exclude_each_other(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=4, items=12)
    with pytest.raises(UserError, match="leave it out beside impression_weight"):
        settings_of(sample, **weighted(sample), impressions="sampled")
