"""Training as one call: rows, worker group, resume, and the weights published for everything after it.

The run's name is a fingerprint of all that shapes the result, so the same configuration finds its own checkpoints and
goes on from the last one, and a finished one does nothing. How many workers, which ZeRO stage and how often it is
saved may change between two calls of one run.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.logs.prepared import check_target
from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.ecpm import EcpmBuckets
from adbeam.tokens.encoder import version_in
from adbeam.training.config import TrainingConfig
from adbeam.training.data.batches import BatchMaker
from adbeam.training.data.build_rows import RowStore, TrainSettings, build_rows, model_of, training_of
from adbeam.training.data.list_rows import ListStore, build_list_rows
from adbeam.training.data.order import RequestOrder
from adbeam.training.data.stream import RequestStream
from adbeam.training.job import Outcome, TrainJob
from adbeam.training.launch import fit, ray_for
from adbeam.training.neighbour_table import write_neighbours
from adbeam.training.state.checkpoint import HISTORY, WEIGHTS
from adbeam.training.state.deepspeed_engine import with_deepspeed_file
from adbeam.training.tracking.run_record import RunRecord, flat
from adbeam.training.tracking.trackers import driver_trackers
from adbeam.workdir import WorkDir

MODEL, ECPM, HISTORY_TABLE = "model.json", "ecpm.json", "history.parquet"
LAYOUT_SETTINGS = {
    "workers", "threads_per_worker", "cpus_per_worker", "use_gpu", "zero_stage", "offload_optimizer",
    "offload_parameters", "activation_checkpointing", "environment", "deepspeed", "deepspeed_file",
    "ingest_cpus", "checkpoint_interval_steps", "keep_checkpoints", "report_interval_steps", "max_failures",
    "restart_timeout_seconds", "tracking", "ladder_requests", "rails",
}  # fmt: skip
"""Settings that change how a run is carried out and not what it computes."""


class ListSettings(Protocol):
    """The part of the lists' settings that their rows are laid out by."""

    @property
    def candidates(self) -> int: ...


class FitSettings(TrainSettings, Protocol):
    """What `train` reads of the root configuration."""

    @property
    def objectives(self) -> ObjectivesConfig: ...
    @property
    def lists(self) -> ListSettings: ...


@dataclass(frozen=True)
class TrainingResult:
    """A finished run. `folder` holds model.safetensors, model.json, ecpm.json and history.parquet."""

    folder: Path
    steps: int
    metrics: dict[str, float]
    """The last reported row: loss, sid, ecpm, mtp, requests_per_second, ..."""
    reused: bool
    """Whether it was finished before this call."""


def train(config: FitSettings) -> TrainingResult:
    """Train on the prepared log and its tokens, and publish `work_dir/training`.

    Raises UserError when a step before it has not run, a setting does not fit, or the loss stopped being finite.
    """
    _check_files(config.training)  # before the minutes that Ray and the rows may take
    check_target(config.training.target_action, WorkDir.of(config.work_dir).prepared)
    with ray_for(config.training):
        return _train(config)


def _train(config: FitSettings) -> TrainingResult:
    store = build_rows(config, use_ray=not config.training.local)
    lists = lists_for(config, store)
    name = run_name(config, store, lists)
    work_dir = WorkDir.of(config.work_dir)
    folder = work_dir.training
    details: dict[str, Any] = {"fingerprint": name}
    if artifacts.is_current(folder, details):
        return _result(folder, reused=True)
    job, stream = build_job(config, store, (work_dir.training_runs / name).resolve(), lists)
    outcome, last = fit(job, stream, open_record(config, job.run_folder))
    if outcome.stopped:
        raise stopped(outcome)
    if outcome.failure is not None or last is None:
        raise refusal(outcome)
    with artifacts.publish(folder, details) as staging:
        details |= _write(staging, job, last)
    return _result(folder, reused=False)


def _check_files(training: TrainingConfig) -> None:
    with_deepspeed_file(training)
    if training.start_from is not None and not training.start_from.is_file():
        raise UserError("there is no such file", field="training.start_from", value=str(training.start_from))


def lists_for(config: FitSettings, store: RowStore) -> ListStore | None:
    """The rows of `work_dir/lists`, where the configuration learns from lists; raises UserError when there are none."""
    if config.objectives.preference.method == "none":
        return None
    if config.training.prefixes:
        raise UserError("lists join rows of requests", field="training.prefixes", value=True,
                        remedy="leave it out where objectives.preference learns from lists")  # fmt: skip
    work_dir, candidates = WorkDir.of(config.work_dir), config.lists.candidates
    return build_list_rows([work_dir.lists], work_dir.list_rows, store.format, candidates, version_in(work_dir.tokens))


def build_job(
    config: FitSettings, store: RowStore, run_folder: Path, lists: ListStore | None = None
) -> tuple[TrainJob, RequestStream]:
    """(what every worker is told, the data as one worker alone would read it)."""
    training = training_of(config)
    order = RequestOrder(
        rows=store.files.rows,
        batch=training.batch_requests,
        lanes=training.lanes,
        window_steps=training.shuffle_steps,
        seed=config.seed,
    )
    total = training.epochs * order.steps_per_epoch
    maker = BatchMaker(
        format=store.format,
        buckets=EcpmBuckets.fit(store.value_sample[store.value_sample > 0], config.model.ecpm_buckets),
        user_value_U=store.user_value_sample if training.user_value_weights else store.user_value_sample[:0],
        lists=None if lists is None else lists.format,
        mixture=config.model.mixture,
    )
    job = TrainJob(
        model=model_of(config),
        objectives=config.objectives,
        training=with_deepspeed_file(training),
        maker=maker,
        seed=config.seed,
        total_steps=min(total, training.max_steps or total),
        run_folder=run_folder,
        initial=None if training.start_from is None else training.start_from.resolve(),
        sids=WorkDir.of(config.work_dir).sids.resolve(),
        prepared=WorkDir.of(config.work_dir).prepared.resolve(),
        neighbours=write_neighbours(config, run_folder),
    )
    reading: dict[str, Any] = {"use_ray": not training.local, "task_cpus": training.ingest_cpus}
    of_lists = None if lists is None else RequestStream(lists.files, _list_order(config, lists), 0, 1, **reading)
    buckets = store.format if training.length_buckets else None
    return job, RequestStream(store.files, order, 0, 1, **reading, buckets=buckets, lists=of_lists)


def open_record(config: FitSettings, folder: Path) -> RunRecord:
    """The record of a run in its folder, and the trackers that the configuration names."""
    sections = {"model": model_of(config), "objectives": config.objectives, "training": training_of(config)}
    settings = {name: section.model_dump(mode="json") for name, section in sections.items()}
    trackers = driver_trackers(config.training.tracking, folder.name, {"seed": config.seed, **flat(settings)})
    return RunRecord(folder, settings, config.seed, trackers)


def stopped(outcome: Outcome) -> UserError:
    """What a driver says that was told to end before its run did."""
    return UserError(f"stopped by SIGTERM after step {outcome.step}", remedy="the same command goes on from there")


def _list_order(config: FitSettings, lists: ListStore) -> RequestOrder:
    training = config.training
    if training.batch_lists % training.lanes:
        raise UserError(
            f"must divide by lanes ({training.lanes})", field="training.batch_lists", value=training.batch_lists
        )
    if lists.files.rows < training.batch_lists:
        raise UserError(
            f"there are only {lists.files.rows} lists",
            field="training.batch_lists",
            value=training.batch_lists,
            remedy="make it smaller, or generate more lists",
        )
    return RequestOrder(lists.files.rows, training.batch_lists, training.lanes, training.shuffle_steps, config.seed)


def run_name(config: FitSettings, store: RowStore, lists: ListStore | None = None) -> str:
    """The name of the run that this configuration and these rows mean."""
    unread = set() if lists is not None else {"preference", "rspo", "uvr", "batch_lists"}
    begun = [] if config.training.start_from is None else [artifacts.describe(config.training.start_from)]
    return artifacts.fingerprint(
        store.fingerprint,
        *([] if lists is None else [lists.fingerprint]),
        model_of(config).model_dump(),
        config.objectives.model_dump(exclude=unread),
        training_of(config).model_dump(exclude=LAYOUT_SETTINGS | unread | config.training.unused() | {"start_from"}),
        *begun,
        config.seed,
    )


def _write(staging: Path, job: TrainJob, last: Path) -> dict[str, Any]:
    """Weights, shape, buckets and history into `staging`; returns what the manifest says of them."""
    shutil.copy2(last / WEIGHTS, staging / WEIGHTS)
    history = json.loads((last / HISTORY).read_text(encoding="utf-8"))
    pq.write_table(pa.Table.from_pylist(history), staging / HISTORY_TABLE)
    artifacts.write_json(staging / MODEL, job.model.model_dump())
    artifacts.write_json(staging / ECPM, job.maker.buckets.as_dict())
    return {"steps": int(history[-1]["step"]), "metrics": history[-1], "seed": job.seed}


def _result(folder: Path, *, reused: bool) -> TrainingResult:
    manifest = artifacts.read_manifest(folder)
    return TrainingResult(folder, manifest["steps"], manifest["metrics"], reused)


def refusal(outcome: Outcome, section: str = "training") -> UserError:
    """What a driver says whose run failed for good."""
    if outcome.failure is None:
        return UserError("the run ended without a checkpoint", remedy="train again")
    if outcome.failure.get("rail"):
        return UserError(
            f"stopped at step {outcome.failure['step']}: {outcome.failure['what']}",
            field="training.rails",
            remedy="nothing was published, the model before stays; lower objectives.preference.weight or the rate",
        )
    return UserError(
        outcome.failure["what"],
        field=f"{section}.learning_rate",
        remedy=f"lower it, or raise {section}.warmup_steps; the checkpoints before that step are kept",
    )
