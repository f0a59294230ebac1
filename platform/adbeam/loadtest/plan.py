"""A load test as settings: the shape of the load or a load trace, who asks, where it goes; and the run itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pa_dataset
from pydantic import Field, model_validator
from rich.console import Console
from rich.table import Table

from adbeam.errors import UserError
from adbeam.loadtest import arrivals
from adbeam.loadtest.connections import listens
from adbeam.loadtest.report import ANSWERED, SHED, summarize, what_was_measured, write_report
from adbeam.loadtest.runner import TIMED_OUT, LoadRun, LoadTarget, bodies, run_load
from adbeam.logs.ids.columns import id_texts
from adbeam.settings import Section, read_yaml, set_key

LISTENS_SECONDS = 5.0

Kind = Literal["constant", "poisson", "step", "ramp", "counts", "times"]


class LoadShape(Section):
    """When requests are sent. `counts` replays requests per minute, `times` recorded arrivals."""

    kind: Kind = "step"
    rate_per_second: float = Field(20.0, gt=0, description="Rate; of a step the base, of a ramp the start.")
    seconds: float = Field(30.0, gt=0, description="Length; of a step the time before it and after it.")
    factor: float = Field(10.0, gt=0, description="Height of a step or end of a ramp, times the rate.")
    step_seconds: float = Field(60.0, gt=0)
    trace: Path | None = Field(
        None, description="CSV (or .csv.gz) of kind counts (period, count) or times (TIMESTAMP)."
    )
    start: str | None = Field(None, description="First minute of a counts trace, such as 1998-05-12 06:00.")
    end: str | None = Field(None, description="Minute after the last.")
    seconds_per_count: float = Field(1.0, gt=0, description="Time in which one interval of a counts trace is played.")
    peak_per_second: float | None = Field(None, gt=0, description="Rate the busiest interval is scaled to.")
    speed: float = Field(1.0, gt=0, description="How many times as fast a times trace is played.")
    seed: int = 0

    @model_validator(mode="after")
    def _trace_named(self) -> Self:
        if self.kind in ("counts", "times") and self.trace is None:
            raise ValueError(f"kind {self.kind} needs a trace file")
        return self

    def planned_ms(self) -> np.ndarray:
        """Rising times in ms from the start; raises UserError on an unreadable trace."""
        match self.kind:
            case "constant":
                return arrivals.constant(self.rate_per_second, self.seconds)
            case "poisson":
                return arrivals.poisson(self.rate_per_second, self.seconds, self.seed)
            case "step":
                return arrivals.step(
                    self.rate_per_second, self.factor, self.seconds, self.step_seconds, self.seconds, self.seed
                )
            case "ramp":
                return arrivals.ramp(self.rate_per_second, self.rate_per_second * self.factor, self.seconds, self.seed)
            case "counts":
                counts = arrivals.read_counts(self._file(), self.start, self.end)
                return arrivals.replay_counts(counts, self.seconds_per_count, self.peak_per_second, self.seed)
            case "times":
                return arrivals.replay_times(arrivals.read_times(self._file()), self.speed)

    def marks(self) -> dict[str, float]:
        """Moments to mark in the picture, ms from the start."""
        if self.kind != "step":
            return {}
        return {"step": 1000.0 * self.seconds, "end": 1000.0 * (self.seconds + self.step_seconds)}

    def _file(self) -> Path:
        assert self.trace is not None
        return self.trace


class LoadTestConfig(Section):
    """`adbeam loadtest`."""

    target: LoadTarget = LoadTarget()
    shape: LoadShape = LoadShape()
    users: Path | None = Field(
        None, description="Parquet (file or folder) with a user_id column: users of the real log."
    )
    max_users: int = Field(10_000, ge=1)
    report: Path = Field(Path("loadtest.png"), description="A picture (.png), or a page with it and the table (.html).")

    @model_validator(mode="after")
    def _report_is_known(self) -> Self:
        if self.report.suffix not in (".png", ".html"):
            raise ValueError("report must end in .png or .html")
        return self


def read_load_test(path: Path | None, overrides: Mapping[str, Any]) -> LoadTestConfig:
    """The load test in a YAML file (none: the defaults) with dotted keys overridden; raises UserError."""
    values, source = {} if path is None else read_yaml(path), str(path or "load test")
    for key, value in overrides.items():
        set_key(values, key, value, source)
    return LoadTestConfig.parse(values, source)


def show(figures: Mapping[str, Mapping[str, float]], console: Console | None = None) -> None:
    """Print figures by span as a table."""
    table = Table(title="load test", title_justify="left")
    table.add_column("")
    for span in figures:
        table.add_column(span, justify="right")
    for name in figures["all"]:
        table.add_row(name, *(f"{span[name]:.4g}" if name in span else "" for span in figures.values()))
    (console or Console()).print(table)


def read_users(path: str | Path, most: int) -> list[str]:
    """The first `most` different users of a Parquet file or folder with `user_id`; raises UserError."""
    try:
        table = pa_dataset.dataset(str(path), format="parquet").to_table(columns=["user_id"])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"cannot read users from {path}: {error}", field="users") from None
    named, _ = id_texts(table["user_id"].unique(), "user_id")
    users: list[str] = named.drop_null().slice(0, most).to_pylist()
    return users


def load_test(config: LoadTestConfig, users: list[str] | None = None) -> tuple[LoadRun, dict[str, dict[str, float]]]:
    """Send the load, write the report, and return the run with its figures: of the whole run, and of a step's parts.

    Raises UserError when nobody is there; a server that is there and too busy for any answer is reported as that.
    """
    if users is None:
        if config.users is None:
            raise UserError("a load test needs users", field="users", remedy="name the prepared `sequences` folder")
        users = read_users(config.users, config.max_users)
    planned_ms = config.shape.planned_ms()
    requests = bodies(users, config.target, len(planned_ms), config.shape.seed)
    run = run_load(planned_ms, requests, config.target, config.shape.marks())
    if all(entry.status <= 0 for entry in run.requests) and not _too_busy(run, config.target):
        raise UserError(
            "no request was answered", field="url", value=config.target.url, remedy="is the server running?"
        )
    figures = spans(run)
    write_report(run, figures, config.report, title=f"{config.shape.kind}: {len(planned_ms)} requests")
    return run, figures


def _too_busy(run: LoadRun, target: LoadTarget) -> bool:
    """Whether a run without one answer is for want of time: requests waited in vain where a server accepts them."""
    waited = any(entry.status == TIMED_OUT for entry in run.requests)
    return waited and listens(target.url, LISTENS_SECONDS)


def none_in_time(run: LoadRun) -> str | None:
    """What to tell of a run in which no answer came inside the deadline; None of any other, and of one that was refused
    (a wrong path or token, a fault): there more time or less load would change nothing."""
    refused = any(entry.status > 0 and entry.status not in (*ANSWERED, *SHED) for entry in run.requests)
    if refused or not run.requests or summarize(run)["in_deadline"] > 0:
        return None
    measured = what_was_measured(run.requests, run.deadline_ms)
    return (
        f"no request was answered inside the deadline: {measured}. The server's machine is busy, or the load too high; "
        "try a lower shape.rate_per_second, a longer target.deadline_ms, or again when nothing else runs"
    )


def spans(run: LoadRun) -> dict[str, dict[str, float]]:
    """Figures by span: `all`, and with marks `before` the first, between them, and `after` the last."""
    figures = {"all": summarize(run)}
    if not run.marks:
        return figures
    names, moments = list(run.marks), [0.0, *run.marks.values(), math.inf]
    for name, since_ms, until_ms in zip(["before", *names[:-1], "after"], moments[:-1], moments[1:], strict=True):
        figures[name] = summarize(run, since_ms, until_ms)
    return figures
