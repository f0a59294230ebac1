"""The online loop as the stages of a round share it: the settings, the ledger, and where everything lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from adbeam.bundle import resolve
from adbeam.declared.encoder import FeatureEncoder
from adbeam.decoding.config import DecodingConfig
from adbeam.logs.prepared import resolve_target
from adbeam.online.config import OnlineConfig
from adbeam.online.ledger import Ledger
from adbeam.rewards.config import ListsConfig
from adbeam.training.trainer import FitSettings
from adbeam.workdir import WorkDir

CARRIED = ("waiting", "refused", "stopped")
"""Verdicts after which a round's samples are still to be learnt."""


class OnlineSettings(FitSettings, Protocol):
    """What the loop reads of the root configuration."""

    @property
    def online(self) -> OnlineConfig: ...
    @property
    def lists(self) -> ListsConfig: ...
    @property
    def decoding(self) -> DecodingConfig: ...


@dataclass(frozen=True)
class Loop:
    """What the stages share."""

    config: OnlineSettings
    ledger: Ledger

    @property
    def work_dir(self) -> WorkDir:
        """Where the other steps left their folders."""
        return WorkDir.of(self.config.work_dir).resolve()

    @property
    def target_action(self) -> str:
        """What makes an item a target: as the first training resolved it."""
        return resolve_target(self.config.training.target_action, self.work_dir.prepared)

    @cached_property
    def told_by(self) -> str | None:
        """Fingerprint of the declared features of requests that the model is told; None where it is told
        none."""
        told = FeatureEncoder.read(self.work_dir.prepared)
        return told.fingerprint if told is not None and told.features else None

    @property
    def bundles(self) -> Path:
        """The folder whose CURRENT names the bundle in force."""
        return self.work_dir.bundles

    @property
    def events(self) -> Path:
        """Where serving writes the event log."""
        return self.config.online.events or self.work_dir.events

    @property
    def requests(self) -> Path:
        """Where serving writes the request log."""
        return self.config.online.requests or self.work_dir.requests

    def states(self) -> list[Path]:
        """The joined state of every shard."""
        return [self.ledger.folder / "state" / f"{shard:05d}.sqlite" for shard in range(self.config.online.shards)]

    def folder(self, number: int, stage: str) -> Path:
        """Where a stage of a round publishes."""
        return self.ledger.round_folder(number) / stage

    def carried(self, number: int) -> list[int]:
        """This round and those right before it whose samples no published model has learnt."""
        numbers = [number]
        for item in reversed(self.ledger.rounds(f"number < {number}")):
            if item.verdict not in CARRIED:
                break
            numbers.append(item.number)
        return sorted(numbers)

    def version(self) -> str:
        """The bundle in force."""
        return resolve(self.bundles).name
