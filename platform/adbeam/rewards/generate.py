"""`adbeam generate-lists`: candidate lists for the requests of a prepared log, one Ray Data task a shard of users.

Decoding actors hold the bundle in force and the reward model; rows go to disk as they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from adbeam import artifacts
from adbeam.bundle import load_bundle, resolve
from adbeam.decoding.config import DecodingConfig
from adbeam.errors import UserError
from adbeam.logs.prepared import PreparedLog, resolve_target
from adbeam.logs.requests import read_sequences, requests_in
from adbeam.ray_data.runners import ray_runner
from adbeam.rewards.config import ListsConfig
from adbeam.rewards.lists import Ask, ListMaker
from adbeam.rewards.scoring import RewardModel
from adbeam.workdir import WorkDir

SPLIT = "train"


class TargetSettings(Protocol):
    """The part of the training's settings that says what a target is."""

    @property
    def target_action(self) -> str: ...


class GenerateSettings(Protocol):
    """What `generate_lists` reads of the root configuration."""

    @property
    def work_dir(self) -> Path: ...
    @property
    def seed(self) -> int: ...
    @property
    def lists(self) -> ListsConfig: ...
    @property
    def decoding(self) -> DecodingConfig: ...
    @property
    def training(self) -> TargetSettings: ...


def generate_lists(config: GenerateSettings) -> Path:
    """Publish `work_dir/lists` (LIST_SAMPLE_SCHEMA) by the bundle in force and the reward model; returns the folder.

    Does nothing when it is current. Raises UserError when a step before it has not run, or no request gives a list.
    """
    work_dir = WorkDir.of(config.work_dir).resolve()
    prepared = PreparedLog.open(work_dir.prepared)
    bundle = artifacts.read_manifest(resolve(work_dir.bundles))
    reward = artifacts.read_manifest(work_dir.reward)
    folder = work_dir.lists
    target_action = resolve_target(config.training.target_action, work_dir.prepared)
    workers = config.lists.workers
    settings = config.lists.model_dump(exclude={"workers", "batch_requests"})
    details: dict[str, Any] = {
        "fingerprint": artifacts.fingerprint(
            prepared.fingerprint,
            bundle["version"],
            reward["files"],
            settings,
            config.decoding.widths,
            config.seed,
            target_action,
        )
    }
    if artifacts.is_current(folder, details):
        return folder
    with artifacts.publish(folder, details) as staging:
        tasks = [
            {"shard": str(shard.resolve()), "target": str(staging.resolve() / f"lists-{number:05d}.parquet")}
            for number, shard in enumerate(prepared.sequences())
        ]
        limit = None if config.lists.max_requests is None else -(-config.lists.max_requests // len(tasks))
        make = partial(
            ShardGenerator,
            str(work_dir.root),
            config.lists.model_dump(),
            config.decoding.widths,
            config.seed,
            target_action,
        )
        if workers:
            with ray_runner():
                answers = _map_with_ray(tasks, limit, workers, make)
        else:
            generator = make(limit)
            answers = [generator(task) for task in tasks]
        lists = sum(answer["lists"] for answer in answers)
        if not lists:
            raise UserError(f"no request of the {SPLIT} split gives a list", remedy="check logs.split and the bundle")
        details |= {
            "step": "generate_lists",
            "model_version": bundle["version"],
            "reward_version": reward["fingerprint"],
            "lists": lists,
            "candidates": sum(answer["candidates"] for answer in answers),
        }
    return folder


def _map_with_ray(
    tasks: list[dict[str, str]], limit: int | None, workers: int, make: partial[ShardGenerator]
) -> list[dict[str, Any]]:
    import ray

    dataset: Any = ray.data.from_items(tasks, override_num_blocks=len(tasks))
    mapped = dataset.map(
        ShardGenerator,
        fn_constructor_args=(*make.args, limit),
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    answers: list[dict[str, Any]] = mapped.take_all()
    return answers


class ShardGenerator:
    """Holds the models; called with one shard of users, writes its lists."""

    def __init__(
        self,
        work_dir: str,
        lists: dict[str, Any],
        widths: tuple[int, ...],
        seed: int,
        target_action: str,
        limit: int | None,
    ) -> None:
        torch.set_num_threads(1)
        self.config, self.limit, self.target_action = ListsConfig(**lists), limit, target_action
        layout = WorkDir.of(work_dir)
        prepared = PreparedLog.open(layout.prepared, verify=False)
        bundle = load_bundle(layout.bundles)
        reward = RewardModel.open(layout.reward, bundle.catalogue)
        self.maker = ListMaker(bundle, reward, self.config, widths, seed, prepared.trends())

    def __call__(self, task: dict[str, str]) -> dict[str, Any]:
        """{"lists", "candidates"} written to `task["target"]`."""
        lists = candidates = 0
        target = Path(task["target"])
        with pq.ParquetWriter(target, self.maker.schema, compression="zstd") as writer:
            asked = islice(self._asks(task["shard"]), self.limit)
            while asks := list(islice(asked, self.config.batch_requests)):
                rows = self.maker.samples(asks)
                writer.write_table(pa.Table.from_pylist(rows, schema=self.maker.schema))
                lists += len(rows)
                candidates += sum(len(row["sids"]) for row in rows)
        if not lists:
            target.unlink()
        return {"lists": lists, "candidates": candidates}

    def _asks(self, shard: str) -> Iterator[Ask]:
        for sequence in read_sequences(shard):
            for request in requests_in(sequence, SPLIT, self.target_action)[::-1][: self.config.requests_per_user]:
                yield Ask.of(request, exposed=self.config.exposed)
