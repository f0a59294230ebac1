"""The step `foundation`: rows, a run of Ray Train that resumes, the published weights, and AUC by scene.

`work_dir/foundation/` holds model.safetensors, foundation.json (settings and scenes), report.json and seen_items.json.
"""

from __future__ import annotations

import math
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.foundation.config import FoundationConfig
from adbeam.foundation.data.build_rows import scenes_of, training_files, write_rows
from adbeam.foundation.data.items import Items
from adbeam.foundation.data.rows import LABELS
from adbeam.foundation.loop import FoundationJob, foundation_worker
from adbeam.foundation.report import judge, lines, macro_auc
from adbeam.foundation.scoring import REPORT, SEEN, SETTINGS, WEIGHTS, Foundation
from adbeam.logs.prepared import PreparedLog
from adbeam.ray_data.runners import ray_runner
from adbeam.training.data.order import RequestOrder, RowFiles
from adbeam.training.data.stream import RequestStream
from adbeam.training.launch import fit, ray_for
from adbeam.training.state.deepspeed_engine import with_deepspeed_file
from adbeam.training.tracking.run_record import RunRecord, flat
from adbeam.training.tracking.trackers import driver_trackers
from adbeam.training.trainer import LAYOUT_SETTINGS, refusal, stopped
from adbeam.workdir import WorkDir

FORMAT = 1
"""Of rows and folder; a change of it trains anew."""
JUDGED = "test"


class FoundationSettings(Protocol):
    """What `foundation` reads of the root configuration."""

    @property
    def work_dir(self) -> Path: ...
    @property
    def seed(self) -> int: ...
    @property
    def foundation(self) -> FoundationConfig: ...


def foundation(config: FoundationSettings) -> Path:
    """Train on all scenes of the prepared log, ads and organic, and publish `work_dir/foundation`; returns the folder.

    Does nothing when it is current; a run that was stopped goes on from its newest checkpoint. Raises UserError when
    the log was not prepared, holds fewer rows than one batch, or the loss stopped being finite.
    """
    work_dir = WorkDir.of(config.work_dir)
    prepared = PreparedLog.open(work_dir.prepared)
    details: dict[str, Any] = {"fingerprint": run_name(config, prepared)}
    if artifacts.is_current(work_dir.foundation, details):
        return work_dir.foundation
    with ray_for(config.foundation.training):
        manifest = _rows(config, prepared)
        job, stream = build_job(config, manifest, work_dir.foundation_runs / details["fingerprint"])
        outcome, last = fit(job, stream, _record(config, job.run_folder), foundation_worker)
    if outcome.stopped:
        raise stopped(outcome)
    if outcome.failure is not None or last is None:
        raise refusal(outcome, "foundation.training")
    with artifacts.publish(work_dir.foundation, details) as staging:
        details |= _write(config, prepared, manifest, last, details["fingerprint"], staging)
    return work_dir.foundation


def run_name(config: FoundationSettings, prepared: PreparedLog) -> str:
    """The name of the run that this configuration and this log mean."""
    shape = config.foundation.model_dump(exclude={"training", "reported_rows"})
    training = config.foundation.training
    run = training.model_dump(exclude=LAYOUT_SETTINGS | training.unused())
    return artifacts.fingerprint(FORMAT, prepared.fingerprint, shape, run, config.seed)


def _rows(config: FoundationSettings, prepared: PreparedLog) -> dict[str, Any]:
    """The manifest of `work_dir/foundation_rows`, written where they are not current."""
    target = WorkDir.of(config.work_dir).foundation_rows
    shape = config.foundation.model_dump(exclude={"training", "reported_rows"})
    details: dict[str, Any] = {"fingerprint": artifacts.fingerprint(FORMAT, prepared.fingerprint, shape)}
    if not artifacts.is_current(target, details):
        with artifacts.publish(target, details) as staging:
            scenes = scenes_of(prepared)
            with nullcontext() if config.foundation.training.local else ray_runner() as runner:
                shards = write_rows(prepared, config.foundation, scenes, staging, runner)
            details |= {"scenes": scenes, "shards": shards}
    return artifacts.read_manifest(target)


def build_job(
    config: FoundationSettings, manifest: dict[str, Any], run_folder: Path
) -> tuple[FoundationJob, RequestStream]:
    """(what every worker is told, the data as one worker alone would read it)."""
    training, folder = config.foundation.training, WorkDir.of(config.work_dir).foundation_rows
    files: RowFiles = training_files(folder.resolve(), manifest["shards"])
    if files.rows < training.batch_requests:
        raise UserError(
            f"{files.rows} rows to learn from are fewer than one batch",
            field="foundation.training.batch_requests",
            value=training.batch_requests,
            remedy="make the batch smaller or the log longer",
        )
    order = RequestOrder(files.rows, training.batch_requests, training.lanes, training.shuffle_steps, config.seed)
    total = training.epochs * order.steps_per_epoch
    job = FoundationJob(
        foundation=config.foundation,
        scenes=len(manifest["scenes"]),
        training=with_deepspeed_file(training),
        seed=config.seed,
        total_steps=min(total, training.max_steps or total),
        run_folder=run_folder.resolve(),
        initial=training.start_from,
    )
    stream = RequestStream(files, order, 0, 1, use_ray=not training.local, task_cpus=training.ingest_cpus)
    return job, stream


def _record(config: FoundationSettings, folder: Path) -> RunRecord:
    settings = {"foundation": config.foundation.model_dump(mode="json")}
    tracking = config.foundation.training.tracking
    return RunRecord(
        folder, settings, config.seed, driver_trackers(tracking, folder.name, {"seed": config.seed, **flat(settings)})
    )


def _write(
    config: FoundationSettings, prepared: PreparedLog, manifest: dict[str, Any], last: Path, version: str, staging: Path
) -> dict[str, Any]:
    """Weights, settings, seen items and report into `staging`; returns what the manifest says of them."""
    shutil.copy2(last / WEIGHTS, staging / WEIGHTS)
    scenes = tuple(manifest["scenes"])
    artifacts.write_json(staging / SETTINGS, {"config": config.foundation.model_dump(mode="json"), "scenes": scenes})
    ids = Items.of(prepared.catalogue(), config.foundation).ids
    rows = sorted({row for shard in manifest["shards"] for row in shard["items"]})
    artifacts.write_json(staging / SEEN, [ids[row] for row in rows])
    model = Foundation.of(config.foundation, scenes, staging / WEIGHTS, version)
    folder = WorkDir.of(config.work_dir).foundation_rows / JUDGED
    found = judge(model, folder, config.foundation.reported_rows)
    artifacts.write_json(staging / REPORT, {"split": JUDGED, "scenes": found})
    print("\n".join(lines(found)))
    macro = {f"{label}_macro_auc": macro_auc(found, label) for label in LABELS}
    return {"step": "foundation", "metrics": {name: value for name, value in macro.items() if not math.isnan(value)}}
