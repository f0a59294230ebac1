"""The reward model's training: exposures by Ray Data, epochs by Ray Train, calibration and report, one folder.

`work_dir/reward/` holds model.safetensors, reward.json (shape and calibration) and report.json. Calibration is fitted
on the validation split and reported on the test split, which nothing was fitted on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import torch
from safetensors.torch import load_file, save_file

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.foundation.reader import RepresentationReader
from adbeam.foundation.tables import BESIDE
from adbeam.logs.prepared import PreparedLog
from adbeam.ray_data.parquet import read_parquet
from adbeam.ray_data.runners import ray_runner
from adbeam.records import SPLITS
from adbeam.rewards.calibration import report
from adbeam.rewards.config import RewardConfig
from adbeam.rewards.exposures import LABELS, write_exposures
from adbeam.rewards.features import CATEGORICAL, DENSE, REPRESENTED, TOLD, represented_columns, told_columns, told_sizes
from adbeam.rewards.model import RewardNet, probabilities, reward_loss
from adbeam.rewards.scoring import REPORT, SETTINGS, WEIGHTS, Calibration, build_net
from adbeam.workdir import WorkDir

DATASET = "exposures"
FORMAT = 3
"""Of the folder; a change of it trains anew."""
SHUFFLE_ROWS = 65_536
LAST_DECAY = 0.1
"""The learning rate falls in a line to this share of itself."""


class RewardSettings(Protocol):
    """What `reward` reads of the root configuration."""

    @property
    def work_dir(self) -> Path: ...
    @property
    def seed(self) -> int: ...
    @property
    def rewards(self) -> RewardConfig: ...


@dataclass(frozen=True)
class RewardJob:
    """What a worker is told."""

    config: RewardConfig
    seed: int
    rows: int
    """Training exposures of one worker in one epoch, about."""
    told: tuple[int, ...] = ()
    """`told_sizes` of the declared features."""
    blocks: tuple[int, ...] = ()
    """Widths of the representations' sources."""


def reward(config: RewardSettings) -> Path:
    """Train the reward model on the prepared log's exposures and publish `work_dir/reward`; returns the folder.

    Does nothing when it is current. Raises UserError when the log was not prepared or holds no exposure of both kinds,
    shown and converted.
    """
    work_dir = WorkDir.of(config.work_dir)
    prepared = PreparedLog.open(work_dir.prepared)
    reader, parts = _representations(config)
    details: dict[str, Any] = {
        "fingerprint": artifacts.fingerprint(
            FORMAT, prepared.fingerprint, config.rewards.model_dump(exclude={"workers"}), config.seed, *parts
        )
    }
    folder = work_dir.reward
    if artifacts.is_current(folder, details):
        return folder
    with artifacts.publish(folder, details) as staging, tempfile.TemporaryDirectory() as scratch:
        exposures = Path(scratch) / DATASET
        with ray_runner() if config.rewards.workers else nullcontext() as runner:
            beside = work_dir.representations.resolve() if reader else None
            write_exposures(prepared, config.rewards, exposures, runner, beside)
            encoder = prepared.told()
            told = told_sizes(encoder)
            blocks = reader.blocks if reader else ()
            weights = _fit(config, exposures, told, blocks)
            if encoder is not None and encoder.items:
                encoder.write(staging)  # whoever judges reads what it is told of items in a catalogue of his own
        details |= _judge_and_write(config.rewards, told, reader, weights, exposures, staging)
    return folder


def _representations(config: RewardSettings) -> tuple[RepresentationReader | None, tuple[str, ...]]:
    """(what the model is told of representations, what tells them apart from others); nothing where it is told none."""
    folder = WorkDir.of(config.work_dir).representations
    if config.rewards.representation is None:
        return None, ()
    reader = RepresentationReader.open(folder, config.rewards.representation)
    return reader, (str(artifacts.read_manifest(folder, verify=False)["fingerprint"]),)


def _fit(
    config: RewardSettings, exposures: Path, told: tuple[int, ...], blocks: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    train = ds.dataset(exposures).filter(pc.field("split") == SPLITS.index("train"))
    rows = train.count_rows() if any(exposures.iterdir()) else 0
    if not rows or not train.filter(pc.field("converted") > 0).count_rows():
        raise UserError(
            "the training split holds no exposure of an ad that converted",
            field="logs",
            remedy="the reward model needs impressions and conversions of ads",
        )
    if not config.rewards.workers:
        job = RewardJob(config.rewards, config.seed, rows, told, blocks)
        return train_on(job, lambda epoch: local_batches(train, config, epoch))
    job = RewardJob(config.rewards, config.seed, rows // config.rewards.workers, told, blocks)
    return _fit_on_ray(job, exposures)


def local_batches(dataset: ds.Dataset, config: RewardSettings, epoch: int) -> Iterator[dict[str, np.ndarray]]:
    """The exposures of an epoch in batches, shuffled as far as SHUFFLE_ROWS reaches."""
    rng = np.random.default_rng((config.seed, epoch))
    for piece in dataset.to_batches(batch_size=SHUFFLE_ROWS):
        order, size = rng.permutation(piece.num_rows), config.rewards.batch_exposures
        for start in range(0, piece.num_rows, size):
            part = piece.take(pa.array(order[start : start + size]))
            yield {name: part.column(name).to_numpy() for name in piece.schema.names}


def _fit_on_ray(job: RewardJob, exposures: Path) -> dict[str, torch.Tensor]:
    """A TorchTrainer whose workers share the exposures evenly and average their gradients."""
    import ray
    import ray.train
    import ray.train.torch
    from ray.data.expressions import col

    data: Any = read_parquet(str(exposures)).filter(expr=col("split") == SPLITS.index("train"))
    represented = represented_columns(sum(job.blocks) + BESIDE * len(job.blocks))
    data = data.select_columns([*CATEGORICAL, *told_columns(len(job.told)), *DENSE, *represented, *LABELS])
    with tempfile.TemporaryDirectory() as storage:
        trainer: Any = ray.train.torch.TorchTrainer(
            reward_worker,
            train_loop_config={"job": job},
            datasets={DATASET: data},
            torch_config=ray.train.torch.TorchConfig(backend="gloo"),
            scaling_config=ray.train.ScalingConfig(num_workers=job.config.workers),
            run_config=ray.train.RunConfig(name="reward", storage_path=storage),
        )
        checkpoint = trainer.fit().checkpoint
        assert checkpoint is not None
        with checkpoint.as_directory() as folder:
            return load_file(Path(folder) / WEIGHTS)


def reward_worker(config: dict[str, Any]) -> None:
    """What Ray Train runs on every worker; rank 0 leaves the weights in a checkpoint."""
    import ray.train

    job: RewardJob = config["job"]
    shard: Any = ray.train.get_dataset_shard(DATASET)

    def batches(epoch: int) -> Iterable[dict[str, np.ndarray]]:
        shuffled: Iterable[dict[str, np.ndarray]] = shard.iter_batches(
            batch_size=job.config.batch_exposures,
            batch_format="numpy",
            local_shuffle_buffer_size=SHUFFLE_ROWS,
            local_shuffle_seed=job.seed + epoch,
        )
        return shuffled

    weights = train_on(job, batches)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if ray.train.get_context().get_world_rank() == 0:
            save_file(weights, Path(folder) / WEIGHTS)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({}, checkpoint=checkpoint)


def train_on(job: RewardJob, batches: Any) -> dict[str, torch.Tensor]:
    """The weights after `epochs` passes over `batches(epoch)`; the workers of a process group share gradients."""
    torch.manual_seed(job.seed)
    net = build_net(job.config, job.told, job.blocks)
    optimizer = torch.optim.AdamW(net.parameters(), lr=job.config.learning_rate, weight_decay=job.config.weight_decay)
    total = max(1, job.config.epochs * -(-job.rows // job.config.batch_exposures))
    step = 0
    for epoch in range(job.config.epochs):
        for batch in batches(epoch):
            for group in optimizer.param_groups:
                group["lr"] = job.config.learning_rate * max(LAST_DECAY, 1 - step / total)
            optimizer.zero_grad(set_to_none=True)
            loss = reward_loss(*net(*tensors(batch)), *(torch.tensor(batch[name]) for name in LABELS))
            torch.autograd.backward(loss)
            _average_gradients(net)
            optimizer.step()
            step += 1
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _average_gradients(net: RewardNet) -> None:
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() < 2:
        return
    for parameter in net.parameters():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()


def tensors(batch: dict[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
    """(categorical int64 [B, C], dense float32 [B, D]), then what is told of representations [B, R] where any is."""
    told = sorted(name for name in batch if name.startswith(TOLD[:5]))
    categorical = torch.from_numpy(np.stack([batch[name] for name in (*CATEGORICAL, *told)], 1).astype(np.int64))
    dense = torch.from_numpy(np.stack([batch[name] for name in DENSE], 1).astype(np.float32))
    represented = sorted(name for name in batch if name.startswith(REPRESENTED[:4]))
    if not represented:
        return categorical, dense
    return categorical, dense, torch.from_numpy(np.stack([batch[name] for name in represented], 1))


def _judge_and_write(
    config: RewardConfig,
    told: tuple[int, ...],
    reader: RepresentationReader | None,
    weights: dict[str, torch.Tensor],
    exposures: Path,
    staging: Path,
) -> dict[str, Any]:
    """Fit the calibration, write everything; returns what the manifest says of it."""
    net = build_net(config, told, reader.blocks if reader else ())
    net.load_state_dict(weights)
    fitted = _predict(net, exposures, "validation", config.reported_exposures)
    scales = {name: Calibration.fit(fitted[f"p_{name}"], fitted[name], fitted["weight"]) for name in LABELS}
    judged = _predict(net, exposures, "test", config.reported_exposures)
    found = {name: report(scales[name].apply(judged[f"p_{name}"]), judged[name], judged["weight"]) for name in LABELS}
    save_file(weights, staging / WEIGHTS)
    stored = {"config": config.model_dump(), "calibration": {name: asdict(scale) for name, scale in scales.items()}}
    learned = {"representation": {"blocks": reader.blocks, "version": reader.version}} if reader else {}
    artifacts.write_json(staging / SETTINGS, {**stored, **({"told": told} if told else {}), **learned})
    artifacts.write_json(staging / REPORT, {"split": "test", **found})
    metrics = {
        f"{name}_{key}": found[name][key] for name in LABELS for key in ("auc", "ece", "predicted_over_observed")
    }
    return {"step": "reward", "metrics": {key: value for key, value in metrics.items() if np.isfinite(value)}}


@torch.inference_mode()
def _predict(net: RewardNet, exposures: Path, split: str, limit: int) -> dict[str, np.ndarray]:
    """Predictions, labels and weights of a split's first `limit` exposures; they are shuffled inside each shard."""
    chosen = ds.dataset(exposures).filter(pc.field("split") == SPLITS.index(split)).head(limit)
    batch = {name: chosen.column(name).to_numpy() for name in chosen.column_names}
    click, both = probabilities(*net.eval()(*tensors(batch)))
    answers = {name: batch[name].astype(np.float64) for name in (*LABELS, "weight")}
    return {**answers, "p_clicked": click.double().numpy(), "p_converted": both.double().numpy()}
