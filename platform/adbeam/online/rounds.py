"""Continual training by rounds of the online loop, stage by stage, each of them whole or absent and safe to repeat.

    join -> rows -> lists -> train -> gate -> publish

A round that is refused (by the gate or by a rail) leaves the bundle in force as it is; its samples are trained on again
by the next round, together with that round's own, so every sample is in exactly one published model.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.online.join import audit
from adbeam.online.ledger import Ledger, Round
from adbeam.online.loop import CARRIED, Loop, OnlineSettings
from adbeam.online.stages import RUN
from adbeam.workdir import WorkDir

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundResult:
    """A finished round. Verdict: published, refused, stopped (by a rail), waiting (too few samples)."""

    number: int
    verdict: str
    reason: str
    bundle: str


Hook = Callable[[int, str], None]
"""Tests end the process at a stage by it: only so can they show that a killed loop goes on where it was."""


def run_rounds(config: OnlineSettings, limit: int | None = None, hook: Hook | None = None) -> list[RoundResult]:
    """Finish the open round, then run rounds until no new log file is left; at most `limit` rounds.

    `hook` is called with (round, stage) when a stage begins. Raises UserError when a step before this one has not run,
    or when nothing was ever logged where the logs should be.
    """
    results: list[RoundResult] = []
    folder = WorkDir.of(config.work_dir).resolve().online
    with _alone(folder), closing(Ledger(folder)) as ledger:
        loop = Loop(config, ledger)
        _check_shards(folder, config.online.shards)
        while limit is None or len(results) < limit:
            open_round = ledger.open_round() or ledger.claim({"events": loop.events, "requests": loop.requests})
            if open_round is None:
                if not results:
                    _say_idle(loop)
                break
            result = _finish(loop, open_round, hook or _no_hook)
            results.append(result)
            _tell(f"round {result.number}: {result.verdict} ({result.reason}); in force: {result.bundle}")
            ledger.clean(config.online.keep_rounds)
    return results


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the loop's lock, which ends with the process; a second loop waits here."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("another loop works in %s; waiting until it ends", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _finish(loop: Loop, item: Round, hook: Hook) -> RoundResult:
    """Run the stages that are left."""
    while item.stage != "done":
        hook(item.number, item.stage)
        step = RUN[item.stage](loop, item.number)
        if step.verdict in CARRIED:
            logger.warning("round %d: %s: %s", item.number, step.verdict, step.reason)
        item = loop.ledger.advance(item.number, step.stage, step.verdict, step.reason)
    return RoundResult(item.number, item.verdict or "published", item.reason or "", loop.version())


def _say_idle(loop: Loop) -> None:
    """Tell that there is nothing to learn from, and where it was looked for."""
    if not loop.events.is_dir() and not loop.requests.is_dir():
        raise UserError("nothing was ever logged there", field="online.events", value=str(loop.events),
                        remedy="serve from this work_dir first, or say where the logs are")  # fmt: skip
    _tell(f"no log file is new in {loop.events} or {loop.requests}; in force: {loop.version()}")


def _tell(line: str) -> None:
    """One line on the terminal, as it is."""
    Console().print(line, soft_wrap=True, markup=False, emoji=False, highlight=False)


def _check_shards(folder: Path, shards: int) -> None:
    """The number of shards is part of the state: users would change theirs with it."""
    path = folder / "shards.json"
    if not path.is_file():
        artifacts.write_json(path, {"shards": shards})
    stored = json.loads(path.read_text(encoding="utf-8"))["shards"]
    if stored != shards:
        raise UserError("the state has another number of shards", field="online.shards", value=shards,
                        remedy=f"keep {stored}, or begin in another work_dir")  # fmt: skip


def _no_hook(number: int, stage: str) -> None:
    pass


def account(config: OnlineSettings) -> dict[str, int]:
    """What became of every event and sample: {"events", "distinct", "stored", "lost", "samples", "duplicated", ...}.

    `lost` are distinct event ids of claimed files that no shard knows (files of cleaned rounds count by rows and
    duplicates), `duplicated` are samples that come twice in the rounds' tables.
    """
    folder = WorkDir.of(config.work_dir).resolve().online
    with closing(Ledger(folder)) as ledger:
        loop = Loop(config, ledger)
        event_rows = sum(rows for _, kind, rows in ledger.files() if kind == "events")
        rounds = [item.number for item in ledger.rounds()]
        return audit(loop.states(), event_rows) | {"rounds": len(rounds)}


def history(config: OnlineSettings) -> list[dict[str, Any]]:
    """Number, verdict and reason of every round, with the gate's figures where it has judged."""
    folder = WorkDir.of(config.work_dir).resolve().online
    with closing(Ledger(folder)) as ledger:
        found = []
        for item in ledger.rounds("stage = 'done'"):
            path = ledger.round_folder(item.number) / "gate" / "verdict.json"
            judged = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            found.append({**judged, "round": item.number, "verdict": item.verdict, "reason": item.reason})
        return found
