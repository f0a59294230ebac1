"""The engine in a process of its own beside the replica's event loop.

Decoding is a thousand small operations a batch, each of which gives the interpreter lock away and takes it back. In the
replica's own process every one of them would wait for the event loop, and the loop for it: measured at 500 requests/s,
a batch of 30 ms of work took 75 ms. So the replica keeps HTTP, queue and controller, and a child process the model; one
message a batch goes each way. Should the replica die, the child sees its lifeline close and ends.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.cost import BatchCost
from adbeam.beams.ladder import Widths
from adbeam.catalogue.creatives.creative import Creative
from adbeam.catalogue.index import Sid
from adbeam.catalogue.live import HeardEcpm, LiveNews
from adbeam.catalogue.live_ads import LiveAds
from adbeam.catalogue.popular import PopularAd, PopularAds, PricesOfPopular
from adbeam.catalogue.updates import AdChange
from adbeam.decoding.trie.paths import Step
from adbeam.list_rules.caps import Worn
from adbeam.recorder import Recorder
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.channel import Caller, Gathered, answer_calls
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.list_rules.left_out import Why
from adbeam.serving.engine.live_mirror import ProcessLive
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.loaded_model import LoadedModel, ModelFacts
from adbeam.serving.engine.request import Answer, Query
from adbeam.serving.stores.load import open_store
from adbeam.serving.stores.store import HistoryStore

logger = logging.getLogger(__name__)

END_SECONDS = 2.0


@dataclass(frozen=True)
class Loaded:
    """What the replica must know of the model in its decode process."""

    facts: ModelFacts
    popular_ads: list[PopularAd]
    prices: PricesOfPopular | None
    news: LiveNews | None
    worthless: list[str]
    """The ads whose eCPM is 0."""
    popular_rules: dict[str, str]
    """Targeting rules of the popular ads that have any."""
    popular_creatives: dict[str, Creative]
    """Creatives of the popular ads, where columns tell them."""


class ProcessEngine:
    """An Engine whose work is done by a child process. `answer` is for one thread; `path` may be called by any."""

    def __init__(self, metrics: Recorder) -> None:
        self.version = ""
        decode, decode_there = socket.socketpair()
        control, control_there = socket.socketpair()
        lifeline_there, self._lifeline = os.pipe()
        given = (decode_there.fileno(), control_there.fileno(), lifeline_there)
        command = [sys.executable, "-m", "adbeam.serving.engine.process", *map(str, given)]
        self._process = subprocess.Popen(command, pass_fds=given, stdin=subprocess.DEVNULL, env=_environment())
        decode_there.close()
        control_there.close()
        os.close(lifeline_there)
        self._decode = Caller(Connection(decode.detach()), metrics)
        self._control = Caller(Connection(control.detach()), metrics)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def load(self, path: Path, config: ServingConfig, policy: BeamPolicyConfig, cost: BatchCost | None) -> Loaded:
        """Verify and load a bundle there; raises UserError naming what is wrong with it."""
        settings = config.model_dump(mode="json"), policy.model_dump(mode="json")
        loaded: Loaded = self._decode.call("load", str(path), *settings, cost)
        self.version = loaded.facts.version
        return loaded

    def live(self, first: LiveNews, poll_ms: float, metrics: Recorder, live_ecpm: HeardEcpm) -> ProcessLive:
        """The update log that the child follows, whose state was `first` when it had loaded."""
        return ProcessLive(self._control, first, poll_ms, metrics, live_ecpm)

    def prepare_thread(self) -> None:
        """The child has prepared its own."""

    def answer(self, queries: Sequence[Query], schedules: Sequence[Widths]) -> list[Answer]:
        """One answer a query; raises EngineGone when the child has ended."""
        answers: list[Answer] = self._decode.call("answer", list(queries), list(schedules))
        return answers

    def path(self, sid: Sequence[int]) -> list[Step]:
        """How the live catalogue narrows along a semantic ID; raises UserError when it does not fit the codebooks."""
        steps: list[Step] = self._control.call("path", list(sid))
        return steps

    def worn(self, queries: Sequence[Query]) -> list[Worn]:
        """What the users of queries have seen enough of."""
        worn: list[Worn] = self._control.call("worn", list(queries))
        return worn

    def why(self, query: Query, item_ids: Sequence[str]) -> Why:
        """What rules make of a query and these ads."""
        why: Why = self._control.call("why", query, list(item_ids))
        return why

    def campaigns(self, item_ids: Sequence[str]) -> list[str | None]:
        """The campaign of each ad now."""
        campaigns: list[str | None] = self._control.call("campaigns", list(item_ids))
        return campaigns

    def close(self) -> None:
        """End the child, hung or not."""
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._decode.close()
        self._control.close()


def load_in_process(
    path: Path,
    config: ServingConfig,
    policy: BeamPolicyConfig,
    store: HistoryStore,
    metrics: Recorder,
    cost: BatchCost | None = None,
) -> LoadedModel:
    """As load_model, but the model lives in a child process, which opens the history store itself."""
    engine = ProcessEngine(metrics)
    try:
        loaded = engine.load(path, config, policy, cost)
    except BaseException:
        engine.close()
        raise
    live_ecpm = HeardEcpm(loaded.worthless)
    live = None if loaded.news is None else engine.live(loaded.news, config.updates.poll_ms, metrics, live_ecpm)
    known: dict[str, Any] = {} if live is None else {"rules": live.rules, "owners": live.owners}
    popular = PopularAds(
        loaded.popular_ads,
        None if live is None else live.is_unchanged,
        None if live is None else live_ecpm,
        loaded.prices,
        loaded.popular_rules,
        known.get("rules"),
        loaded.popular_creatives,
    )
    return LoadedModel(
        engine,
        loaded.facts,
        popular,
        time.monotonic(),
        live,
        live_ecpm,
        worn=engine.worn,
        why=engine.why,
        campaigns=engine.campaigns,
        **known,
    )


class _Child:
    """The process behind a ProcessEngine."""

    def __init__(self) -> None:
        self.metrics = Gathered()
        self._model: LoadedModel | None = None

    @property
    def model(self) -> LoadedModel:
        assert self._model is not None
        return self._model

    @property
    def live(self) -> LiveAds:
        assert isinstance(self.model.live, LiveAds)
        return self.model.live

    def load(self, path: str, args: dict[str, Any], policy: dict[str, Any], cost: BatchCost | None) -> Loaded:
        config = ServingConfig.parse(args, source="args")
        store = open_store(config.store.model_copy(update={"prepared": None}))  # the replica has filled it
        parsed = BeamPolicyConfig.parse(policy, source="policy")
        self._model = model = load_model(Path(path), config, parsed, store, self.metrics, cost)
        assert isinstance(model.engine, ModelEngine)
        worthless = model.engine.catalogue.index.worthless()
        news = self.news(0) if model.live is not None else None
        keep_loaded()
        popular = model.popular_ads
        return Loaded(model.facts, popular.ads, popular.prices, news, worthless, popular.rules, popular.creatives)

    def answer(self, queries: list[Query], schedules: list[Widths]) -> list[Answer]:
        return self.model.engine.answer(queries, schedules)

    def path(self, sid: list[int]) -> list[Step]:
        return self.model.engine.path(sid)

    def worn(self, queries: list[Query]) -> list[Worn]:
        assert self.model.worn is not None
        return self.model.worn(queries)

    def campaigns(self, item_ids: list[str]) -> list[str | None]:
        assert self.model.campaigns is not None
        return self.model.campaigns(item_ids)

    def why(self, query: Query, item_ids: list[str]) -> Why:
        assert self.model.why is not None
        return self.model.why(query, item_ids)

    def change(self, changes: list[AdChange]) -> tuple[int, list[Sid | None]]:
        return self.live.change(changes)

    def news(self, since: int) -> LiveNews:
        return self.live.news(since)


def keep_loaded() -> None:
    """Spare the garbage collector what has been loaded and stays: a full collection walks it all, for tens of
    milliseconds in which nothing is answered."""
    gc.collect()
    gc.freeze()


def _environment() -> dict[str, str]:
    """The child looks for its modules where the replica found them."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(0)  # sys.exit would end this thread alone, and the main one may hang in a decode


def main(decode: int, control: int, lifeline: int) -> None:
    """Answer until the replica closes its ends, or dies."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s decode process: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the replica too, which ends this process in order
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    child = _Child()
    side = {
        "path": child.path,
        "change": child.change,
        "news": child.news,
        "worn": child.worn,
        "why": child.why,
        "campaigns": child.campaigns,
    }
    threading.Thread(target=answer_calls, args=(Connection(control), side, child.metrics), daemon=True).start()
    answer_calls(Connection(decode), {"load": child.load, "answer": child.answer}, child.metrics)


if __name__ == "__main__":
    from adbeam.serving.engine.process import main as run  # what is sent must be known by its importable name

    run(*(int(number) for number in sys.argv[1:]))
