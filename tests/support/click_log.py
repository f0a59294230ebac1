"""The sample log as one whose users only click: orders become clicks, or impressions, and nothing has a price."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
from tests.support.samples import SampleLog, write_sample_log

from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog


def prepare_without_conversions(work_dir: Path, action: str = "click", **arguments: int) -> PreparedLog:
    """The sample log (arguments as of write_sample_log), `action` in place of every conversion, in
    `work_dir / "prepared"`."""
    sample = write_sample_log(work_dir / "sample", **arguments)
    return prepare_rewritten(work_dir, sample, action)


def prepare_rewritten(work_dir: Path, sample: SampleLog, action: str) -> PreparedLog:
    """A log that lies there already, rewritten and prepared in this process."""
    schema = pq.read_schema(sample.events)
    rows = pq.read_table(sample.events).to_pylist()
    for row in rows:
        row["action"] = action if row["action"] == "conversion" else row["action"]
        row["price"] = row["ecpm"] = None
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sample.events)
    return run(SimpleNamespace(work_dir=work_dir, logs=LogsConfig.parse(sample.settings)), in_process=True)
