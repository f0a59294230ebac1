"""The sample log with columns that tell of each request, and the steps as far as a bundle that is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save_file
from tests.support.samples import SampleLog, write_sample_log
from tests.support.training.samples import CODEBOOKS, sample_sids, training_config
from torch import zeros

from adbeam import artifacts
from adbeam.config import Config
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.workdir import SIDS, WorkDir

OS: dict[str, Any] = {"os": {"kind": "category", "model": True}}
SYSTEMS = ("android", "ios", "windows", "日本 📱")


def write_told_log(folder: Path, columns: dict[str, pa.Array], **arguments: int) -> SampleLog:
    """The sample log with further columns; the rows of `columns` are those of its events."""
    sample = write_sample_log(folder, **arguments)
    events = pq.read_table(sample.events)
    for name, values in columns.items():
        events = events.append_column(name, values)
    pq.write_table(events, sample.events)
    return sample


def events_of(folder: Path, **arguments: int) -> pa.Table:
    """The events of the sample log with these arguments."""
    return pq.read_table(write_sample_log(folder, **arguments).events)


def by_request(events: pa.Table, values: list[Any], seed: int = 0) -> list[Any]:
    """One of the values for each request, None among them where it is, in the order of the rows."""
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[str, str], Any] = {}
    pairs = zip(events["user_id"].to_pylist(), events["request_id"].to_pylist(), strict=True)
    return [drawn.setdefault(pair, values[rng.integers(len(values))]) for pair in pairs]


def told_config(work_dir: Path, sample: SampleLog, features: dict[str, Any], **logs: Any) -> Config:
    """A small configuration that trains in this process and knows these features."""
    settings = {"logs": {**sample.settings, **logs}, "features": features}
    return training_config(work_dir, {"max_steps": 4}, **settings)


def prepare_told(config: Config) -> PreparedLog:
    """Prepare, and write tokens as the step after it would."""
    prepared = run(config, in_process=True)
    with artifacts.publish(WorkDir.of(config.work_dir).tokens, {}) as staging:
        pq.write_table(sample_sids(prepared.catalogue()), staging / SIDS)
        save_file({"level_0": zeros(CODEBOOKS[0], 4)}, staging / "codebooks.safetensors")
    return prepared
