"""The step `represent`: CR of every event of an ad, aggregated into CR(u) and CR(i), and IR of every item.

One Ray Data task a shard of users: a user's events are scanned in their order, and the state after every moment is
kept, so that whoever learns from it later can read what was known then. Items meet in many shards; each task leaves its
part of each item's day, and the parts are put together by the decay over time, whatever that of users is.
`work_dir/representations/` holds users/, items/, content/ and representations.json.

Shapes: R rows, E width, N items.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.foundation.aggregate import State, TimeDecay, at, decay_of, scan
from adbeam.foundation.config import FoundationConfig, RepresentConfig
from adbeam.foundation.data.items import Items
from adbeam.foundation.data.rows import LABELS, RowMaker
from adbeam.foundation.scoring import Foundation
from adbeam.foundation.tables import CONTENT, ITEMS, SETTINGS, USERS, states_table
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import UserSequence, read_sequences
from adbeam.ray_data.runners import InProcessRunner, Runner, ray_runner
from adbeam.records import DAY_MS, HOUR_MS
from adbeam.workdir import WorkDir

FORMAT = 1
PARTS = "parts"


class RepresentSettings(Protocol):
    """What `represent` reads of the root configuration."""

    @property
    def work_dir(self) -> Path: ...
    @property
    def represent(self) -> RepresentConfig: ...


def represent(config: RepresentSettings) -> Path:
    """Aggregate what the foundation makes of the prepared log into `work_dir/representations`; returns the folder.

    Does nothing when it is current. Raises UserError when a step before it has not run, a setting does not fit the
    foundation, or nothing of what it says is a number.
    """
    work_dir = WorkDir.of(config.work_dir).resolve()
    prepared = PreparedLog.open(work_dir.prepared)
    model = Foundation.open(work_dir.foundation)
    layer = layer_of(config.represent, model.config)
    shape = config.represent.model_dump(exclude={"workers"})
    details: dict[str, Any] = {"fingerprint": artifacts.fingerprint(FORMAT, prepared.fingerprint, model.version, shape)}
    if artifacts.is_current(work_dir.representations, details):
        return work_dir.representations
    with artifacts.publish(work_dir.representations, details) as staging:
        with ray_runner() if config.represent.workers else nullcontext() as runner:
            found = _write_states(prepared, work_dir.foundation, config.represent, staging, runner)
        if not found["events"]:
            raise UserError(
                f"no event of an ad has a representation; {found['not_finite']} were not finite",
                field="represent.actions",
                value=config.represent.actions,
                remedy="represent more actions, or train the foundation at a lower rate",
            )
        _join_items(staging, config.represent)
        pq.write_table(model.content(prepared.catalogue()), _folder(staging, CONTENT) / "content.parquet")
        stored = {"config": config.represent.model_dump(mode="json"), "version": model.version, "layer": layer}
        artifacts.write_json(staging / SETTINGS, stored)
        details |= {"step": "represent", "metrics": {name: float(value) for name, value in found.items()}}
    return work_dir.representations


def layer_of(config: RepresentConfig, model: FoundationConfig) -> int:
    """The layer whose representation is taken; raises UserError where the foundation has none of that number."""
    layer = model.layers if config.layer is None else config.layer
    if layer > model.layers:
        raise UserError(
            f"the foundation has layers 0 to {model.layers}", field="represent.layer", value=layer,
            remedy="take one of them, or train with more layers",
        )  # fmt: skip
    return layer


def _folder(staging: Path, name: str) -> Path:
    (staging / name).mkdir(exist_ok=True)
    return staging / name


def _write_states(
    prepared: PreparedLog, foundation: Path, config: RepresentConfig, staging: Path, runner: Runner | None
) -> dict[str, int]:
    for name in (USERS, PARTS):
        _folder(staging, name)
    task = partial(_represent_shard, str(prepared.folder.resolve()), str(foundation), config.model_dump(), str(staging))
    counts: dict[str, int] = defaultdict(int)
    for answer in (runner or InProcessRunner()).each(len(prepared.sequences()), task, "represent"):
        for name, count in answer.items():
            counts[name] += count
    return dict(counts)


def _represent_shard(
    prepared_folder: str, foundation: str, settings: dict[str, Any], staging: str, number: int
) -> dict[str, Any]:
    prepared, config = PreparedLog.open(prepared_folder, verify=False), RepresentConfig.model_validate(settings)
    model = Foundation.open(foundation)
    shard = Representer(model, Items.of(prepared.catalogue(), model.config), config)
    for sequence in read_sequences(prepared.sequences()[number]):
        shard.add(sequence)
    for name, table in ((USERS, shard.user_states()), (PARTS, shard.item_parts())):
        if len(table):
            pq.write_table(table, Path(staging) / name / f"{name}-{number:05d}.parquet")
    return shard.counts


class Representer:
    """States of the users it is given, and their part of the items' days."""

    def __init__(self, model: Foundation, items: Items, config: RepresentConfig) -> None:
        self.model, self.items, self.config = model, items, config
        self.decay = decay_of(config)
        self.by_day = TimeDecay(config.half_life_hours * HOUR_MS)
        maker = model.config.model_copy(update={"organic_negatives": 0})
        self.rows, self.layer = RowMaker(items, model.scenes, maker), layer_of(config, model.config)
        self.counts = {"users": 0, "events": 0, "not_finite": 0}
        self._users: list[pa.Table] = []
        self._days: dict[tuple[int, int], State] = {}

    def add(self, sequence: UserSequence) -> None:
        """Represent all of a user's events of ads that the settings name."""
        row_R = self.rows.user_rows(sequence, np.ones(len(sequence)), np.random.default_rng(0))
        row_R = row_R[(row_R["ad"][:, 0] > 0) & self._enters(row_R["label"])]
        row_R = row_R[np.argsort(row_R["known_ms"][:, 0], kind="stable")]
        if not len(row_R):
            return
        vector_RE = self.model.cross({name: row_R[name] for name in row_R.dtype.names or ()}, self.layer)
        finite_R = np.isfinite(vector_RE).all(1)
        self.counts["not_finite"] += int((~finite_R).sum())
        row_R, vector_RE = row_R[finite_R], vector_RE[finite_R]
        time_R = row_R["known_ms"][:, 0]
        states = list(scan(self.decay, vector_RE, time_R))
        self.counts["events"] += len(row_R)
        self.counts["users"] += bool(states)
        if states:
            self._users.append(_stored([sequence.user_id] * len(states), states))
        for item, time_ms, vector_E in zip(row_R["row"][:, 0].tolist(), time_R.tolist(), vector_RE, strict=True):
            key = item, time_ms // DAY_MS
            before = self._days.get(key, State.empty(vector_RE.shape[1]))
            self._days[key] = self.by_day.merge(before, State.of(vector_E, time_ms))

    def _enters(self, label_R2: np.ndarray) -> np.ndarray:
        if self.config.actions == "shown":
            return np.ones(len(label_R2), bool)
        enters_R: np.ndarray = label_R2[:, LABELS.index(self.config.actions)] > 0
        return enters_R

    def user_states(self) -> pa.Table:
        """The state of each user after each moment."""
        return pa.concat_tables(self._users) if self._users else pa.table({})

    def item_parts(self) -> pa.Table:
        """What these users add to each item's day, as of the day's end."""
        if not self._days:
            return pa.table({})
        states = [at(self.by_day, state, (day + 1) * DAY_MS) for (_, day), state in self._days.items()]
        return _stored([self.items.ids[item] for item, _ in self._days], states)


def _stored(ids: list[str], states: list[State]) -> pa.Table:
    time_R = np.array([state.time_ms for state in states], np.int64)
    weight_R = np.array([state.weight for state in states])
    return states_table(ids, time_R, weight_R, np.stack([state.mean_E for state in states]))


def _join_items(staging: Path, config: RepresentConfig) -> None:
    """Parts of days into the state of each item after each of its days; the parts go."""
    decay = TimeDecay(config.half_life_hours * HOUR_MS)
    parts = ds.dataset(staging / PARTS).to_table().sort_by([("id", "ascending"), ("time_ms", "ascending")])
    ids: list[str] = []
    states: list[State] = []
    before, state = None, State.empty(0)
    for row in parts.to_pylist():
        one = State(np.array(row["mean"], np.float64), row["weight"], row["time_ms"], 1)
        same_day = before == row["id"] and state.time_ms == one.time_ms
        state = decay.merge(state, one) if before == row["id"] else one
        if same_day:
            states[-1] = state
        else:
            ids.append(row["id"])
            states.append(state)
        before = row["id"]
    pq.write_table(_stored(ids, states), _folder(staging, ITEMS) / "items.parquet")
    for path in (staging / PARTS).iterdir():
        path.unlink()
    (staging / PARTS).rmdir()
