"""The published reward model, ready to judge: eCPM of showing items to a user at a moment.

Shapes: n candidates of one request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file

from adbeam import artifacts
from adbeam.declared.encoder import MISSING, Codes, FeatureEncoder
from adbeam.foundation.reader import RepresentationReader
from adbeam.rewards.calibration import apply_curve, fit_curve, fit_platt, logit, sigmoid
from adbeam.rewards.config import RewardConfig
from adbeam.rewards.features import DENSE, ItemTable, Past, pair_features, vocabulary
from adbeam.rewards.model import PER_MILLE, RewardNet, probabilities
from adbeam.workdir import REPRESENTATIONS

WEIGHTS, SETTINGS, REPORT = "model.safetensors", "reward.json", "report.json"


def build_net(config: RewardConfig, told: Sequence[int] = (), blocks: Sequence[int] = ()) -> RewardNet:
    """An untrained net of these settings; `told` are `told_sizes` of the declared features, `blocks` widths of the
    representations' sources."""
    sizes, transfer = (*vocabulary(config), *told), config.representation
    return RewardNet(sizes, len(DENSE), config.embedding_width, config.hidden, transfer, blocks)


@dataclass(frozen=True)
class Calibration:
    """Platt scaling, sigmoid(a logit(p) + b), then a monotone curve in logits."""

    platt: tuple[float, float]
    curve: tuple[list[float], list[float]]

    @classmethod
    def fit(cls, probability_B: np.ndarray, label_B: np.ndarray, weight_B: np.ndarray) -> Self:
        """Fitted where nothing else was."""
        platt = fit_platt(probability_B, label_B, weight_B)
        if platt == (1.0, 0.0):
            return cls(platt, ([], []))
        scaled_B = sigmoid(platt[0] * logit(probability_B) + platt[1])
        return cls(platt, fit_curve(scaled_B, label_B, weight_B))

    def apply(self, probability_B: np.ndarray) -> np.ndarray:
        """Calibrated probabilities."""
        a, b = self.platt
        return apply_curve(sigmoid(a * logit(probability_B) + b), self.curve)


@dataclass(frozen=True)
class Question:
    """One request and the items that are to be judged for it."""

    past: Past
    """Events strictly before `now_ms`."""
    now_ms: int
    scene: str
    user_id: str | None
    row_n: np.ndarray
    """Rows of the item table."""
    told: Codes = ()
    """Codes of the declared features; empty where nothing is told, or nothing is known of it."""


@dataclass(frozen=True)
class RewardModel:
    """A trained reward model over one catalogue."""

    net: RewardNet
    config: RewardConfig
    calibration: Calibration
    """Of pCTCVR."""
    items: ItemTable
    version: str
    told: tuple[int, ...] = ()
    """`told_sizes` of the declared features of requests that it learned from."""
    reader: RepresentationReader | None = None
    """Of the representations that it learned from; None where it is told none."""

    @classmethod
    def open(cls, folder: str | Path, catalogue: pa.Table) -> Self:
        """Load `work_dir/reward`, every hash checked; raises UserError when it is missing or altered."""
        folder = Path(folder)
        manifest = artifacts.read_manifest(folder)
        stored: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        config = RewardConfig.parse(stored["config"], source=str(folder / SETTINGS))
        told, encoder = tuple(stored.get("told", ())), FeatureEncoder.read(folder)
        reader = None
        if config.representation is not None:
            beside = folder.parent / REPRESENTATIONS
            reader = RepresentationReader.of_model(beside, config.representation, **stored["representation"])
        net = build_net(config, told, reader.blocks if reader else ())
        net.load_state_dict(load_file(folder / WEIGHTS))
        calibration = Calibration(**stored["calibration"]["converted"])
        items = ItemTable.of(catalogue, config, encoder)
        of_requests = told[: len(told) - items.told_NF.shape[1]]
        return cls(net.eval(), config, calibration, items, str(manifest["fingerprint"]), of_requests, reader)

    @torch.inference_mode()
    def judge(self, questions: Sequence[Question]) -> list[np.ndarray]:
        """eCPM float64 [n] of each question's items: 1000 * pCTCVR * price, in money per thousand exposures."""
        if not questions:
            return []
        parts = [
            pair_features(q.past, q.now_ms, q.scene, q.user_id, q.row_n, self.items, self.config, self._told(q))
            for q in questions
        ]
        categorical = torch.from_numpy(np.concatenate([part[0] for part in parts]).astype(np.int64))
        dense = torch.from_numpy(np.concatenate([part[1] for part in parts]))
        _, both = probabilities(*self.net(categorical, dense, *self._represented(questions)))
        rate = self.calibration.apply(both.double().numpy())
        money = PER_MILLE * rate * self.items.price_N[np.concatenate([q.row_n for q in questions])]
        return np.split(money, np.cumsum([len(q.row_n) for q in questions])[:-1])

    def _represented(self, questions: Sequence[Question]) -> tuple[torch.Tensor, ...]:
        """What the net is told of representations [B, R], where it is told any."""
        reader, ids = self.reader, self.items.ids
        if reader is None:
            return ()
        parts = [reader.read(q.user_id, q.now_ms, ids[q.row_n].tolist()) for q in questions]
        return (torch.from_numpy(np.concatenate(parts)),)

    def _told(self, question: Question) -> Codes:
        return (question.told or (MISSING,) * len(self.told)) if self.told else ()
