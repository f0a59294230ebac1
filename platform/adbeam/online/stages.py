"""The stages of a round. Each publishes a folder; one that is there already is not made again."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load_file

from adbeam import artifacts
from adbeam.bundle import load_bundle, write_again
from adbeam.features.spec import FeatureSpec
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import UserSequence
from adbeam.model import build_model
from adbeam.online.gate import judge
from adbeam.online.histories import HELD_OUT, NEW
from adbeam.online.join import JoinTask, join_shard
from adbeam.online.loop import Loop
from adbeam.online.round_data import (
    HELD_ROWS,
    NEW_ROWS,
    asks_of,
    batch_maker,
    list_store,
    newest_moment,
    row_maker,
    sequences_of,
    training_job,
)
from adbeam.online.rows import replay, requests_of, untold
from adbeam.ray_data.runners import InProcessRunner, ray_runner
from adbeam.records import HOUR_MS
from adbeam.rewards.lists import ListMaker, sample_schema
from adbeam.rewards.scoring import RewardModel
from adbeam.training.data.build_rows import RowStore, model_of, write_rows
from adbeam.training.launch import fit, ray_for
from adbeam.training.state.checkpoint import HISTORY, WEIGHTS
from adbeam.training.trainer import ECPM, open_record, stopped

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """Where a round goes next; a verdict ends it."""

    stage: str
    verdict: str | None = None
    reason: str | None = None


def join(loop: Loop, number: int) -> Step:
    """Join the claimed files, a task a shard."""
    online, inputs = loop.config.online, loop.ledger.inputs(number)
    now_ms = newest_moment(inputs, loop.ledger.folder / "clock.json")
    tasks = [
        JoinTask(state, inputs, shard, online.shards, number, now_ms, round(online.attribution_hours * HOUR_MS),
                 round(online.skew_seconds * 1000), loop.told_by)
        for shard, state in enumerate(loop.states())
    ]  # fmt: skip
    with ray_runner() if online.workers else nullcontext(InProcessRunner()) as runner:
        answers = list(runner.each(len(tasks), partial(_join_one, tasks), "join_shard"))
    artifacts.write_json(loop.ledger.folder / "clock.json", {"now_ms": now_ms})
    with artifacts.publish(loop.folder(number, "join"), {"round": number}) as staging:
        totals = {name: sum(answer[name] for answer in answers) for name in answers[0]}
        artifacts.write_json(staging / "counts.json", totals)
    return Step("rows")


def _join_one(tasks: list[JoinTask], shard: int) -> dict[str, Any]:
    return join_shard(tasks[shard])


def rows(loop: Loop, number: int) -> Step:
    """Training rows of the samples that no published model has learnt, and held-out rows of the newest rounds."""
    config, target = loop.config, loop.folder(number, "rows")
    learnt = loop.carried(number)
    base = RowStore.open(loop.work_dir.training_rows)
    maker = row_maker(loop, base, learnt)
    new_N = [part for part in maker.rows(sequences_of(loop, learnt), NEW) if len(part)]
    count = sum(map(len, new_N))
    left = untold(loop.states(), learnt) if loop.told_by is not None else 0
    if left:
        logger.warning("round %d: %d requests teach nothing: their logs lack codes of these features", number, left)
    if count < config.online.min_samples:
        lacking = f"; {left} requests lack codes of the declared features" if left else ""
        return Step("done", "waiting", f"only {count} new samples, fewer than {config.online.min_samples}{lacking}")
    judged = range(max(1, number - config.online.gate.rounds + 1), number + 1)
    by_moment = sorted(sequences_of(loop, judged), key=_newest_held_out)
    held_N = [part for part in maker.rows(by_moment, HELD_OUT) if len(part)]
    old_N = replay(base.files, _replayed(loop, count), number, base.format)
    with artifacts.publish(
        target, {"round": number, "samples_of": learnt, "new": count, "replayed": len(old_N)}
    ) as out:
        write_rows(out / NEW_ROWS, [*new_N, old_N], base.format, seed=(number,))
        newest = np.concatenate([*held_N, np.zeros(0, base.format.dtype)])[-config.online.gate.max_requests :]
        pq.write_table(base.format.to_table(newest), out / HELD_ROWS)
        values = np.concatenate([part["value_M"][part["weight_M"] > 0] for part in new_N])
        np.save(out / "values.npy", values, allow_pickle=False)
    return Step("lists")


def _newest_held_out(sequence: UserSequence) -> int:
    return int(sequence.timestamp_H[sequence.split_H == HELD_OUT].max(initial=0))


def _replayed(loop: Loop, new: int) -> int:
    """Rows of the first training beside `new` ones: their share, and as many more as fill the last batch, so that no
    new row is left out of a pass."""
    training, share = loop.config.training, loop.config.online.replay_share
    old = round(new * share / (1 - share))
    unit = training.batch_requests if new + old >= training.batch_requests else training.lanes
    return old + -(new + old) % unit


def lists(loop: Loop, number: int) -> Step:
    """Candidate lists of the round's requests, by the bundle in force; none where the objective learns from none."""
    config, target = loop.config, loop.folder(number, "lists")
    wanted = 0 if config.objectives.preference.method == "none" else config.online.lists_per_round
    rows_made: list[dict[str, Any]] = []
    if wanted:
        bundle = load_bundle(loop.bundles)
        reward = RewardModel.open(loop.work_dir.reward, bundle.catalogue)
        trends = PreparedLog.open(loop.work_dir.prepared, verify=False).trends()
        maker = ListMaker(bundle, reward, config.lists, config.decoding.widths, config.seed, trends, f"online-{number}")
        asks = islice(asks_of(loop, number), wanted)
        while part := list(islice(asks, config.lists.batch_requests)):
            rows_made += maker.samples(part)
    schema = sample_schema(FeatureSpec.of(model_of(config)))
    with artifacts.publish(target, {"round": number, "lists": len(rows_made)}) as out:
        pq.write_table(pa.Table.from_pylist(rows_made, schema=schema), out / "lists-00000.parquet")
    return Step("train")


def train(loop: Loop, number: int) -> Step:
    """Continue from the bundle in force, for some passes over the rows; a rail or a loss that is no number ends it."""
    config, target = loop.config, loop.folder(number, "train")
    details = {"round": number, "parent": loop.version()}
    if artifacts.is_current(target, details):
        return Step("gate")
    base, candidates = RowStore.open(loop.work_dir.training_rows), list_store(loop, number)
    objectives = config.objectives
    if candidates is None:
        objectives = objectives.model_copy(
            update={"preference": objectives.preference.model_copy(update={"method": "none", "unified": False})}
        )
    maker = replace(batch_maker(loop, number, base), lists=None if candidates is None else candidates.format)
    job, stream = training_job(loop, number, maker, candidates)
    job = replace(job, objectives=objectives)
    with ray_for(job.training):
        outcome, last = fit(job, stream, open_record(config, job.run_folder))
    if outcome.stopped:
        raise stopped(outcome)
    if outcome.failure is not None or last is None:
        return Step("done", "stopped", "no checkpoint" if outcome.failure is None else str(outcome.failure["what"]))
    with artifacts.publish(target, details) as out:
        shutil.copy2(last / WEIGHTS, out / WEIGHTS)
        shutil.copy2(last / HISTORY, out / HISTORY)
        artifacts.write_json(out / ECPM, maker.buckets.as_dict())
    shutil.rmtree(job.run_folder, ignore_errors=True)
    return Step("gate")


def gate(loop: Loop, number: int) -> Step:
    """Compare the new model with the one in force on held-out requests."""
    config = loop.config
    bundle = load_bundle(loop.bundles)
    base = RowStore.open(loop.work_dir.training_rows)
    maker = batch_maker(loop, number, base)
    prepared = PreparedLog.open(loop.work_dir.prepared, verify=False)
    new_model = build_model(bundle.model_config)
    new_model.load_state_dict(load_file(loop.folder(number, "train") / WEIGHTS))
    means = maker.buckets.means.tolist()
    old = Recommender.of(bundle, order_by="expected_value", include_paused=True, trends=prepared.trends())
    new = Recommender(
        new_model.eval(),
        bundle.catalogue,
        means,
        order_by="expected_value",
        include_paused=True,
        trends=prepared.trends(),
        told=bundle.told,
    )
    judged = range(max(1, number - config.online.gate.rounds + 1), number + 1)
    target_action = loop.target_action
    requests = [
        request for sequence in sequences_of(loop, judged) for request in requests_of(sequence, HELD_OUT, target_action)
    ]
    requests.sort(key=lambda request: request.now_ms)
    table = pq.read_table(loop.folder(number, "rows") / HELD_ROWS)
    owed = float(bundle.manifest.get("metrics", {}).get("ndcg_owed", 0.0))
    verdict = judge(old, new, table, maker, requests[-config.online.gate.max_requests :], config.online.gate,
                    config.decoding.widths, owed)  # fmt: skip
    with artifacts.publish(loop.folder(number, "gate"), {"round": number}) as out:
        artifacts.write_json(out / "verdict.json", {**verdict.as_dict(), "parent": bundle.version})
    return Step("publish") if verdict.published else Step("done", "refused", verdict.reason)


def publish(loop: Loop, number: int) -> Step:
    """Write the next bundle and point CURRENT at it; replicas follow. Nothing is written twice."""
    bundle = load_bundle(loop.bundles)
    if bundle.manifest.get("online_round") == number:
        return Step("done", "published", "not worse on held-out requests")
    made, trained = loop.folder(number, "gate") / "verdict.json", loop.folder(number, "train")
    verdict = json.loads(made.read_text(encoding="utf-8"))
    if verdict["parent"] != bundle.version:
        return Step("done", "refused", f"{bundle.version} came into force meanwhile")
    means = json.loads((trained / ECPM).read_text(encoding="utf-8"))["means"]
    details = {
        "online_round": number,
        "parent": bundle.version,
        "seed": loop.config.seed,
        "metrics": {name: value for name, value in verdict.items() if isinstance(value, float)},
    }
    settings = bundle.settings.model_copy(update={"ecpm_means": means})
    write_again(loop.bundles, bundle, details, settings=settings, weights=load_file(trained / WEIGHTS))
    return Step("done", "published", verdict["reason"])


RUN: dict[str, Callable[[Loop, int], Step]] = {
    "join": join, "rows": rows, "lists": lists, "train": train, "gate": gate, "publish": publish,
}  # fmt: skip
"""What runs each stage that the ledger names, but `done`."""
