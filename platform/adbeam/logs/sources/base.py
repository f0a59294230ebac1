"""What the pipeline asks of a source of events: a catalogue, and the log in shares that tasks read independently."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa

from adbeam.logs.reading import Chunk
from adbeam.targeting.features import FeatureConfig

CATALOGUE_FILE = "catalogue.parquet"
SPILL = "spill"
"""Folder for what only the preparation itself reads; it is removed before the result is published."""

Impressions = Literal["none", "all", "weighted", "sampled"]
"""What a log's impressions are: every showing; some, each with the number it stands for; or some (or implied ones) that
say nothing of how often an ad was shown."""


class Source(Protocol):
    """A log. It travels to Ray tasks, so it holds settings and paths, never rows."""

    features: pa.Schema
    """Feature columns that ride along behind the Event contract."""
    timestamp_unit: str
    impressions: Impressions
    """What the impressions are where there are any."""
    impression_weight: str | None
    """The feature column that weighs them, where they are `weighted`."""
    tells_time: bool
    """Whether its timestamps are moments of a clock, and not places in a line."""
    timezone: str | None
    """Of times that name none; None is UTC."""
    nobody_words: Collection[str]
    """User ids that mean nobody, beside blank ones."""
    told: Mapping[str, FeatureConfig]
    """Feature columns that hold what the model is told of requests."""

    def check(self) -> list[Path]:
        """The files read, after cheap checks of each; raises UserError. Runs on the driver."""

    def stage(self, folder: Path) -> dict[str, Any]:
        """Write catalogue.parquet into `folder` and what the shares need into its spill folder. Runs in a task.

        Returns {"catalogue": counts, "source": counts} for the account.
        """

    def shares(self) -> int:
        """Into how many independent shares the log falls."""

    def read(self, share: int, folder: Path) -> Iterator[Chunk]:
        """One share's raw rows under the contract's names. `folder` is what `stage` wrote to. Runs in a task."""
