"""The published foundation, ready to say UR, IR, CR and probabilities of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file

from adbeam import artifacts
from adbeam.foundation.config import FoundationConfig
from adbeam.foundation.data.items import KEYS, UNKNOWN, Items
from adbeam.foundation.net.model import FoundationNet, RowBatch
from adbeam.foundation.tables import states_table

WEIGHTS, SETTINGS, REPORT, SEEN = "model.safetensors", "foundation.json", "report.json", "seen_items.json"
BATCH_ROWS = 8192
IS_ATTRIBUTE_K = np.arange(len(KEYS)) > 0


@dataclass(frozen=True)
class Foundation:
    """A trained foundation."""

    net: FoundationNet
    config: FoundationConfig
    scenes: tuple[str, ...]
    version: str
    """Of its space: representations of two versions do not compare."""
    seen: tuple[str, ...] = ()
    """Ids of the items that training saw."""

    @classmethod
    def of(
        cls, config: FoundationConfig, scenes: tuple[str, ...], weights: Path, version: str, seen: tuple[str, ...] = ()
    ) -> Self:
        """With the weights in a safetensors file."""
        net = FoundationNet(config, len(scenes))
        net.load_state_dict(load_file(weights))
        return cls(net.eval(), config, scenes, version, seen)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Load `work_dir/foundation`, every hash checked; raises UserError when it is missing or altered."""
        folder = Path(folder)
        manifest = artifacts.read_manifest(folder)
        stored: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        config = FoundationConfig.parse(stored["config"], source=str(folder / SETTINGS))
        seen = tuple(json.loads((folder / SEEN).read_text(encoding="utf-8")))
        return cls.of(config, tuple(stored["scenes"]), folder / WEIGHTS, str(manifest["fingerprint"]), seen)

    @torch.inference_mode()
    def probabilities(self, row: dict[str, np.ndarray]) -> np.ndarray:
        """Probabilities of click and of conversion, float64 [R, 2]."""
        found = [torch.sigmoid(self.net(batch)).double().numpy() for batch in _batches(row)]
        return np.concatenate(found) if found else np.empty((0, 2))

    @torch.inference_mode()
    def cross(self, row: dict[str, np.ndarray], layer: int) -> np.ndarray:
        """CR of a layer of the ad branch, float32 [R, E]."""
        found = [self.net.representations(batch)[layer].numpy() for batch in _batches(row)]
        return np.concatenate(found) if found else np.empty((0, self.net.width), np.float32)

    @torch.inference_mode()
    def content(self, catalogue: pa.Table) -> pa.Table:
        """IR of every item of a catalogue as states without a time; the id of those never seen is left out of it."""
        items = Items.of(catalogue, self.config)
        bucket_NK = np.where(np.isin(items.ids, self.seen)[:, None] | IS_ATTRIBUTE_K, items.bucket_NK, UNKNOWN)
        vector_NE = self.net.towers.items(torch.tensor(bucket_NK).long(), torch.tensor(items.price_N)[:, None]).numpy()
        return states_table(items.ids.tolist(), np.zeros(len(items), np.int64), np.ones(len(items)), vector_NE)


def _batches(row: dict[str, np.ndarray]) -> Iterator[RowBatch]:
    for start in range(0, len(row["user"]), BATCH_ROWS):
        yield RowBatch.of({name: value[start : start + BATCH_ROWS] for name, value in row.items()})
