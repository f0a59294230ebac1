"""What a model that was trained with representations is told of a user and of items at a moment.

Shapes: n items of one question, R what is told: of each source its vector, log(1 + weight), and whether it is known.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from adbeam.errors import UserError
from adbeam.foundation.config import TransferConfig
from adbeam.foundation.tables import BESIDE, Representations, StateTable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RepresentationReader:
    """Reads the sources that the settings name; without tables everything is missing."""

    config: TransferConfig
    blocks: tuple[int, ...]
    """Width of each source's vector."""
    version: str
    tables: tuple[StateTable, ...] | None

    @classmethod
    def open(cls, folder: Path, config: TransferConfig) -> Self:
        """Of what `adbeam represent` published; raises UserError where there is none."""
        found = Representations.open(folder, config.point)
        tables = tuple(getattr(found, _TABLES[name]) for name in config.sources)
        return cls(config, tuple(table.mean_RE.shape[1] for table in tables), found.version, tables)

    @classmethod
    def of_model(cls, folder: Path, config: TransferConfig, blocks: Sequence[int], version: str) -> Self:
        """For a model that learned from version `version` of widths `blocks`: where the folder holds another one, or
        none, everything counts as missing, and a warning says so."""
        try:
            found = cls.open(folder, config)
        except UserError as error:
            log.warning("representations count as missing: %s", error)
            return cls(config, tuple(blocks), version, None)
        if (found.version, found.blocks) != (version, tuple(blocks)):
            log.warning("representations count as missing: %s holds version %s of widths %s, the model learned from "
                        "version %s of widths %s", folder, found.version, found.blocks, version, blocks)  # fmt: skip
            return cls(config, tuple(blocks), version, None)
        return found

    @property
    def width(self) -> int:
        """R."""
        return sum(self.blocks) + BESIDE * len(self.blocks)

    def read(self, user_id: str | None, now_ms: int, item_ids: Sequence[str]) -> np.ndarray:
        """float32 [n, R] of showing these items to this user; 0 where a source knows nothing."""
        told = np.zeros((len(item_ids), self.width), np.float32)
        first = 0
        for name, size, table in zip(self.config.sources, self.blocks, self.tables or (), strict=False):
            ids = [user_id] if name == "user" else list(item_ids)
            vector, weight, known = table.look_up(ids, np.full(len(ids), now_ms), self.config.point)
            told[:, first : first + size] = vector
            told[:, first + size], told[:, first + size + 1] = weight, known
            first += size + BESIDE
        return told


_TABLES = {"user": "users", "item": "items", "content": "content"}
