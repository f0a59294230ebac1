"""The join as Ray Data tasks: every shard is joined once, whoever runs it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.online.feedback import WEEK_MS, event, request

from adbeam.online.join import JoinTask, audit, samples_of
from adbeam.online.stages import _join_one
from adbeam.ray_data.runners import InProcessRunner, ray_runner
from adbeam.records import EVENT_SCHEMA, REQUEST_SCHEMA

USERS = [f"user{number}" for number in range(20)]


def tasks(folder: Path, inputs: Path) -> list[JoinTask]:
    return [JoinTask(folder / f"{shard}.sqlite", inputs, shard, 3, 1, 10_000, WEEK_MS, 1000) for shard in range(3)]


@pytest.mark.full
@pytest.mark.usefixtures("ray_session")
def test_ray_joins_what_this_process_joins(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    rows = {
        "requests": (REQUEST_SCHEMA, [request(f"r-{user}", 1000, ["a", "b"], user) for user in USERS]),
        "events": (EVENT_SCHEMA, [event(f"e-{user}", f"r-{user}", "b", "click", 2000, user) for user in USERS]),
    }
    for kind, (schema, values) in rows.items():
        (inputs / kind).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(values, schema=schema), inputs / kind / "a.parquet")
    here, there = tasks(tmp_path / "here", inputs), tasks(tmp_path / "there", inputs)
    expected = list(InProcessRunner().each(3, partial(_join_one, here), "join_shard"))
    with ray_runner() as runner:
        found = list(runner.each(3, partial(_join_one, there), "join_shard"))
        again = list(runner.each(3, partial(_join_one, there), "join_shard"))
    key = repr
    assert sorted(found, key=key) == sorted(expected, key=key) == sorted(again, key=key)
    assert sum(answer["samples"] for answer in found) == len(USERS)
    assert all(samples_of(a.state, 1).equals(samples_of(b.state, 1)) for a, b in zip(here, there, strict=True))
    assert audit([task.state for task in there], len(USERS))["lost"] == 0
