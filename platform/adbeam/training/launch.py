"""Starting the workers: a Ray Train worker group on a cluster, or the same code in this process."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from adbeam.signals import signal_event
from adbeam.training.config import TrainingConfig
from adbeam.training.data.stream import RequestStream
from adbeam.training.job import Job, Outcome
from adbeam.training.loop import DATASET, train_worker
from adbeam.training.state.checkpoint import newest_local
from adbeam.training.tracking.progress import Follower, Post, Printer, Row
from adbeam.training.tracking.run_record import RunRecord

Worker = Callable[[dict[str, Any]], Any]


def fit(
    job: Job, stream: RequestStream, record: RunRecord, worker: Worker = train_worker
) -> tuple[Outcome, Path | None]:
    """Run the job to its end; returns (rank 0's outcome, the folder of the last checkpoint)."""
    show, status = Printer(job.total_steps), "failed"

    def post(row: Row) -> None:
        record(row)
        show(row)

    try:
        with signal_event(signal.SIGTERM) as told:
            outcome, folder = (
                _fit_here(replace(job, post=post, stop=told.is_set), stream, worker)
                if job.training.local
                else _fit_on_ray(job, stream, post, told, worker)
            )
        record.complete(outcome.history)
        status = "stopped" if outcome.stopped else "failed" if outcome.failure else "finished"
        return outcome, folder
    finally:
        show.close()
        record.close(status)


def build_trainer(job: Job, stream: RequestStream, worker: Worker = train_worker) -> Any:
    """The TorchTrainer that calls `worker` with {"job": job}. Storage and name make a rerun resume."""
    from adbeam.training.data.data_config import RequestDataConfig

    train, torch_train = _ray_train()
    training = job.training
    resources: dict[str, float] = {"CPU": training.cpus_per_worker, **({"GPU": 1} if training.use_gpu else {})}
    return torch_train.TorchTrainer(
        worker,
        train_loop_config={"job": job},
        datasets={DATASET: stream},
        dataset_config=RequestDataConfig(),
        torch_config=torch_train.TorchConfig(backend="nccl" if training.use_gpu else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=training.workers, use_gpu=training.use_gpu, resources_per_worker=resources
        ),
        run_config=train.RunConfig(
            name=job.run_folder.name,
            storage_path=str(job.run_folder.parent),
            failure_config=train.FailureConfig(max_failures=training.max_failures),
            checkpoint_config=train.CheckpointConfig(num_to_keep=training.keep_checkpoints),
            worker_runtime_env={"env_vars": _worker_environment(training)},
        ),
    )


@contextmanager
def ray_for(training: TrainingConfig) -> Iterator[None]:
    """Ray is up inside the block: the running one, the cluster of the job, or a local one that ends with the block.

    A local Ray has room for the workers and their data tasks. Nothing is started for training in one process.
    """
    # `report` waits for one poll of Ray Train's controller, 2 s by default.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(training.restart_timeout_seconds))
    for name in ("ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if training.local:
        yield
        return
    import ray

    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **_local_cluster(training))
    quiet = ray.data.DataContext.get_current()
    before, quiet.enable_progress_bars = quiet.enable_progress_bars, False
    try:
        yield
    finally:
        quiet.enable_progress_bars = before
        if started:
            ray.shutdown()


def _local_cluster(training: TrainingConfig) -> dict[str, Any]:
    """Arguments of ray.init where there is no cluster to join."""
    if os.environ.get("RAY_ADDRESS"):
        return {}
    wanted = training.worker_range[1] * training.cpus_per_worker + 2
    return {"address": "local", "num_cpus": max(os.cpu_count() or 1, int(wanted)), "include_dashboard": False}


def _ray_train() -> tuple[Any, Any]:
    """(ray.train, ray.train.torch), untyped: their annotations are those of the older Train."""
    import ray.train
    import ray.train.torch

    return ray.train, ray.train.torch


def _worker_environment(training: TrainingConfig) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": str(training.threads_per_worker), "OMP_WAIT_POLICY": "PASSIVE"}
    device = {} if training.use_gpu else {"DS_ACCELERATOR": "cpu"}
    return {**threads, **device, **training.environment}


def _fit_on_ray(
    job: Job, stream: RequestStream, show: Post, told: threading.Event, worker: Worker
) -> tuple[Outcome, Path | None]:
    with Follower(show, told) as follower:
        result = build_trainer(replace(job, post=follower.post, stop=follower.stop), stream, worker).fit()
    checkpoint = result.checkpoint
    if checkpoint is None:
        return result.return_value, None
    folder = Path(checkpoint.path)
    return result.return_value, folder if folder.is_dir() else Path(checkpoint.to_directory())


def _fit_here(job: Job, stream: RequestStream, worker: Worker) -> tuple[Outcome, Path | None]:
    """Ray Train's local mode: the worker runs in this process, without a cluster."""
    train, torch_train = _ray_train()
    with single_process_group():
        trainer = torch_train.TorchTrainer(
            _train_and_release,
            train_loop_config={"job": job, "worker": worker},
            datasets={DATASET: stream},
            scaling_config=train.ScalingConfig(num_workers=0),
        )
        outcome = trainer.fit().return_value
    return outcome, newest_local(job.run_folder / "checkpoints")


def _train_and_release(config: dict[str, Any]) -> Outcome:
    """DeepSpeed keeps the process group in globals; it must let go for the next run in this process."""
    import deepspeed.comm

    try:
        outcome: Outcome = config["worker"](config)
        return outcome
    finally:
        if deepspeed.comm.is_initialized():
            deepspeed.comm.destroy_process_group()


@contextmanager
def single_process_group() -> Iterator[None]:
    """A torch.distributed group of one, without ports; DeepSpeed wants one."""
    import torch.distributed as dist

    before = {key: os.environ.get(key) for key in ("LOCAL_RANK", "DS_ACCELERATOR")}
    os.environ["LOCAL_RANK"] = "0"
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
