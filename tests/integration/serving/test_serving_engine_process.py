"""The decode process: the same answers as in this process, clear refusals, and an end with the replica."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.bundles import write_random_bundle
from tests.support.replicas import write_tokenized_bundle

from adbeam.beams.cost import BatchCost
from adbeam.catalogue.blocked import Blocked
from adbeam.catalogue.live import ChangeRefused
from adbeam.catalogue.updates import AdChange, AdUpdate, SqliteUpdateLog
from adbeam.errors import UserError
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.channel import EngineGone, Gathered
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.process import ProcessEngine, load_in_process
from adbeam.serving.engine.request import Query
from adbeam.serving.stores.sqlite import SqliteStore

WIDE = (8, 32, 512)
COST = BatchCost(1.0, 1.0, 0.01)
QUERY = Query("u", None, "display", 5, 1_700_000_000_000, Blocked())


class Place:
    """A bundle and the store that goes with it."""

    def __init__(self, folder: Path) -> None:
        self.updates = folder / "updates.sqlite"
        settings = {"store": {"path": str(folder / "h.sqlite")}, "updates": {"path": str(self.updates), "poll_ms": 20}}
        self.config = ServingConfig.resolve({"bundle": str(folder / "bundles"), **settings})
        write_tokenized_bundle(folder / "bundles", 40)
        self.bundle = folder / "bundles"
        self.store, self.metrics = SqliteStore(self.config.store.path), Gathered()

    def load(self, how: Any, path: Path | None = None) -> LoadedModel:
        policy = read_policy("deadline")
        model: LoadedModel = how(path or self.bundle, self.config, policy, self.store, self.metrics, COST)
        return model


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("process"))


@pytest.fixture(scope="module")
def model(place: Place) -> Iterator[LoadedModel]:
    loaded = place.load(load_in_process)
    yield loaded
    assert loaded.live is not None
    loaded.live.stop()
    loaded.engine.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def children(pid: int) -> set[str]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {child for task in tasks for child in (task / "children").read_text().split()}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_answers_are_those_of_an_engine_in_this_process(place: Place, model: LoadedModel) -> None:
    here = place.load(load_model)
    assert model.facts == here.facts
    schedules = [WIDE, (2, 4, 8)]
    there, expected = (m.engine.answer([QUERY, QUERY], schedules) for m in (model, here))
    assert [[ad["item_id"] for ad in answer.ads] for answer in there] == [
        [ad["item_id"] for ad in answer.ads] for answer in expected
    ]
    assert there[0].cold_start and model.popular(Blocked(), 5) == here.popular(Blocked(), 5)
    sid = there[0].ads[0]["sid"]
    assert model.engine.path(sid) == here.engine.path(sid)


def test_errors_come_back_as_they_were_raised(model: LoadedModel) -> None:
    with pytest.raises(UserError, match="codebooks"):
        model.engine.path([0])
    with pytest.raises(RuntimeError, match="failed in the decode process"):
        model.engine.answer([QUERY], [])
    assert model.engine.answer([QUERY], [WIDE])[0].ads, "it goes on after an error"


def served(model: LoadedModel) -> set[str]:
    everything = replace(QUERY, count=100)
    return {ad["item_id"] for ad in model.engine.answer([everything], [WIDE])[0].ads}


def test_ads_change_there_and_the_replica_knows(place: Place, model: LoadedModel) -> None:
    live = model.live
    assert live is not None
    first, second = (ad["item_id"] for ad in model.popular(Blocked(), 2))
    assert live.change([AdChange(operation="pause", item_id=first)]) == (1, [None])
    assert model.popular(Blocked(), 1)[0]["item_id"] == second and first not in served(model)
    assert model.without_dead([{"item_id": first}, {"item_id": second}]) == [{"item_id": second}]
    with pytest.raises(ChangeRefused, match="known ad"):
        live.change([AdChange(operation="pause", item_id="never heard of")])
    SqliteUpdateLog(place.updates).append([AdUpdate(operation="resume", item_id=first)])
    until(lambda: live.watermark == 2)
    assert model.popular(Blocked(), 1)[0]["item_id"] == first and first in served(model)


def test_the_replica_knows_which_ads_earn_nothing_and_what_popular_ones_earn_now(
    place: Place, model: LoadedModel
) -> None:
    live = model.live
    assert live is not None
    first, second = (ad["item_id"] for ad in model.popular(Blocked(), 2))
    assert model.is_worth_bidding(first)
    SqliteUpdateLog(place.updates).append([AdUpdate(operation="update", item_id=first, ecpm=0.0)])
    until(lambda: not model.is_worth_bidding(first))
    assert first in served(model) and model.popular(Blocked(), 1)[0]["expected_ecpm"] == 0.0
    live.change([AdChange(operation="update", item_id=second, ecpm=4.5)])
    assert [ad["expected_ecpm"] for ad in model.popular(Blocked(), 2)] == [0.0, 4.5]
    live.change([AdChange(operation="update", item_id=first, ecpm=1.0)])
    assert model.is_worth_bidding(first)


def test_a_refusal_keeps_its_kind_field_and_value() -> None:
    refused = ChangeRefused("Input should be known", field="changes.0.item_id", value="ad1")
    back = pickle.loads(pickle.dumps(refused))
    assert (type(back), str(back), vars(back)) == (ChangeRefused, str(refused), vars(refused))


def test_a_bundle_that_is_broken_is_refused_and_leaves_no_process(place: Place, tmp_path: Path) -> None:
    broken = write_random_bundle(tmp_path / "bundles", 60, seed=3)
    (broken / "model.safetensors").write_bytes(b"\0" * 100)
    before = children(os.getpid())
    with pytest.raises(UserError, match=r"model\.safetensors"):
        place.load(load_in_process, broken)
    assert not children(os.getpid()) - before


def test_a_store_that_fails_there_is_counted_here(place: Place, model: LoadedModel) -> None:
    for left in place.config.store.path.parent.glob("h.sqlite*"):
        left.write_bytes(b"not a database, and long enough to be looked at as one" * 100)
    place.metrics.taken()
    assert model.engine.answer([QUERY], [WIDE])[0].cold_start
    assert ("add", "adbeam_store_failures", 1.0, {"operation": "recent"}) in place.metrics.taken()


def test_a_killed_process_is_an_error_not_a_hang(model: LoadedModel) -> None:
    assert isinstance(model.engine, ProcessEngine)
    os.kill(model.engine.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(EngineGone):
            model.engine.answer([QUERY], [WIDE])


def test_closing_ends_a_process_that_hangs() -> None:
    engine = ProcessEngine(Gathered())
    os.kill(engine.pid, signal.SIGSTOP)
    engine.close()
    assert not alive(engine.pid)
