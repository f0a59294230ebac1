"""The data of a round as its stages read and build it: marked sequences, makers of rows and batches, the job."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.bundle import load_bundle, resolve
from adbeam.features.sid_table import SidTable, with_items_told
from adbeam.features.spec import FeatureSpec
from adbeam.features.trends import EncodedTrends
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import UserSequence
from adbeam.objectives.ecpm import EcpmBuckets, SlidingEcpm
from adbeam.online.histories import NEW, Fresh, Histories
from adbeam.online.loop import Loop
from adbeam.online.rows import RowMaker, corrections_of, fresh_samples, requests_of
from adbeam.pseudonyms import user_key
from adbeam.rewards.lists import Ask
from adbeam.tokens.encoder import version_in
from adbeam.training.data.batches import BatchMaker
from adbeam.training.data.build_rows import RowStore, model_of
from adbeam.training.data.list_rows import ListStore, build_list_rows
from adbeam.training.data.order import RequestOrder, RowFiles
from adbeam.training.data.stream import RequestStream
from adbeam.training.job import TrainJob
from adbeam.training.state.checkpoint import WEIGHTS

NEW_ROWS, HELD_ROWS = "rows.parquet", "held_out.parquet"


def newest_moment(inputs: Path, clock: Path) -> int:
    """The newest moment in the round's files, or before them."""
    known: int = json.loads(clock.read_text(encoding="utf-8"))["now_ms"] if clock.is_file() else 0
    moments: list[int | None] = [
        pc.max(pq.read_table(path, columns=["timestamp"])["timestamp"]).as_py() for path in inputs.rglob("*.parquet")
    ]
    return max([known, *(moment for moment in moments if moment is not None)])


def sequences_of(loop: Loop, numbers: Iterable[int]) -> list[UserSequence]:
    """Every user with samples in these rounds, all that is known of them, what is new marked."""
    percent = loop.config.online.gate.holdout_percent
    by_shard: list[dict[str, list[Fresh]]] = [{} for _ in loop.states()]
    for number in numbers:
        for merged, samples in zip(
            by_shard, fresh_samples(loop.states(), number, percent, loop.told_by is not None), strict=True
        ):
            for user, new in samples.items():
                merged.setdefault(user, []).extend(new)
    prepared = PreparedLog.open(loop.work_dir.prepared, verify=False)
    users = {user for merged in by_shard for user in merged}
    histories = Histories(prepared, user_key(loop.events, loop.config.online.key_env), users)
    pairs = zip(loop.states(), by_shard, strict=True)
    return [sequence for state, merged in pairs for sequence in histories.sequences(state, merged)]


def asks_of(loop: Loop, number: int) -> Iterator[Ask]:
    """The requests that are trained on, as asks for candidate lists; the ads that followed are exposed."""
    target_action = loop.target_action
    for sequence in sequences_of(loop, loop.carried(number)):
        for request in requests_of(sequence, NEW, target_action):
            yield Ask.of(request, exposed=loop.config.lists.exposed)


def row_maker(loop: Loop, base: RowStore, numbers: list[int]) -> RowMaker:
    """What makes rows of the samples of these rounds.

    A click that is trained on together with its conversion is learnt beside that conversion's difference.
    """
    training, spec = loop.config.training, FeatureSpec.of(model_of(loop.config))
    bundle = load_bundle(loop.bundles)
    sids = SidTable.of_catalogue(bundle.catalogue, loop.config.model.levels)
    sids = with_items_told(sids, bundle.catalogue, bundle.told)
    trends = None
    if spec.trending_length:
        trends = EncodedTrends(PreparedLog.open(loop.work_dir.prepared, verify=False).trends(), sids, spec)
    corrections = {pair for number in numbers for pair in corrections_of(loop.states(), number)}
    return RowMaker(sids, spec, base.format, loop.target_action, training.behavior_weights, trends, corrections)


def batch_maker(loop: Loop, number: int, base: RowStore) -> BatchMaker:
    """Buckets of a sliding window: the first training's values, then those of every round since."""
    sliding = SlidingEcpm(loop.config.model.ecpm_buckets, loop.config.online.bucket_window)
    sliding.add(base.value_sample[base.value_sample > 0])
    for item in loop.ledger.rounds(f"number <= {number}"):
        path = loop.folder(item.number, "rows") / "values.npy"
        if path.is_file():
            values = np.load(path, allow_pickle=False)
            sliding.add(values[values > 0])
    weights = loop.config.training.user_value_weights
    buckets: EcpmBuckets = sliding.current()
    users = base.user_value_sample if weights else base.user_value_sample[:0]
    return BatchMaker(base.format, buckets, users, mixture=loop.config.model.mixture)


def list_store(loop: Loop, number: int) -> ListStore | None:
    """The round's lists as rows; None where there are too few for one batch."""
    folder = loop.folder(number, "lists")
    if artifacts.read_manifest(folder)["lists"] < loop.config.training.batch_lists:
        return None
    base = RowStore.open(loop.work_dir.training_rows)
    return build_list_rows(
        [folder], loop.folder(number, "list_rows"), base.format, loop.config.lists.candidates,
        version_in(loop.work_dir.tokens),
    )  # fmt: skip


def training_job(
    loop: Loop, number: int, maker: BatchMaker, candidates: ListStore | None
) -> tuple[TrainJob, RequestStream]:
    config = loop.config
    count = pq.ParquetFile(loop.folder(number, "rows") / NEW_ROWS).metadata.num_rows
    lanes = config.training.lanes
    batch = min(config.training.batch_requests, max(lanes, count // lanes * lanes))
    order = RequestOrder(count, batch, lanes, config.training.shuffle_steps, config.seed + number)
    total_steps = config.online.passes * order.steps_per_epoch
    rails = config.training.rails
    often = max(1, min(rails.interval_steps, total_steps // (2 * rails.patience_checks)))
    training = config.training.model_copy(
        update={
            "rails": rails.model_copy(update={"interval_steps": often}),
            "batch_requests": batch,
            "learning_rate": config.training.learning_rate * config.online.learning_rate_share,
            "schedule": "constant",
            "warmup_steps": 0,
            "time_budget_seconds": None,
        }
    )
    files = RowFiles(loop.folder(number, "rows"), (NEW_ROWS,), (count,))
    reading: dict[str, Any] = {"use_ray": not training.local, "task_cpus": training.ingest_cpus}
    of_lists = None
    if candidates is not None:
        list_order = RequestOrder(
            candidates.files.rows, training.batch_lists, lanes, training.shuffle_steps, config.seed + number
        )
        of_lists = RequestStream(candidates.files, list_order, 0, 1, **reading)
    job = TrainJob(
        model=model_of(config),
        objectives=config.objectives,
        training=training,
        maker=maker,
        seed=config.seed + number,
        total_steps=total_steps,
        run_folder=loop.folder(number, f"run-{loop.version()}"),
        initial=resolve(loop.bundles) / WEIGHTS,
        sids=loop.work_dir.sids,
    )
    return job, RequestStream(files, order, 0, 1, **reading, lists=of_lists)
