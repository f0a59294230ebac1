"""Safety rails: what says that a model has gone astray, and stops the run with a reason.

Watched while lists are learnt from: the KL divergence to the reference that generated them, the entropy of the first
level, and what the model says when nothing constrains it: SIDs that no ad has, and the same SID for everybody.

Shapes: B requests, T SID levels, N SIDs of the catalogue, V codebook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adbeam.features.batch import ContextBatch
from adbeam.features.sid_table import SidTable
from adbeam.training.config import RailsConfig

WATCHED = ("list_kl", "entropy_share", "invalid_share", "collapsed_share")


class Diverged(Exception):
    """A rail was crossed. All workers raise it together."""


@dataclass
class Rails:
    """Counts the checks in a row that a value was beyond its bound."""

    config: RailsConfig
    beyond: dict[str, int] = field(default_factory=dict)

    def check(self, values: Mapping[str, float]) -> str | None:
        """The reason to stop, or None. A value that is missing or not a number is not judged."""
        config = self.config
        bounds = {
            "list_kl": (config.max_kl_nats, "the divergence from the reference is {:.3g} nats, more than {:.3g}"),
            "entropy_share": (
                config.min_entropy_share,
                "the first level's entropy is {:.3g} of log V, less than {:.3g}",
            ),
            "invalid_share": (config.max_invalid_share, "{:.3g} of the free SIDs belong to no ad, more than {:.3g}"),
            "collapsed_share": (config.max_collapsed_share, "{:.3g} of the free SIDs are repeats, more than {:.3g}"),
        }
        for name, (bound, text) in bounds.items():
            value = values.get(name)
            if value is None or np.isnan(value):
                continue
            bad = value < bound if name == "entropy_share" else value > bound
            self.beyond[name] = self.beyond.get(name, 0) + 1 if bad else 0
            if self.beyond[name] >= config.patience_checks:
                return text.format(value, bound) + f" in {config.patience_checks} checks in a row"
        return None


@dataclass(frozen=True)
class LiveSids:
    """Which SIDs an item has."""

    key_N: np.ndarray
    """int64, rising."""
    codebooks: tuple[int, ...]

    @classmethod
    def read(cls, path: Path, codebooks: Sequence[int]) -> LiveSids:
        """From a `sids.parquet`."""
        code_NT = SidTable.read(path, len(codebooks)).code_NT
        return cls(np.unique(_keys(code_NT, codebooks)), tuple(codebooks))

    def has(self, code_BT: np.ndarray) -> np.ndarray:
        """bool [B]."""
        key_B = _keys(code_BT, self.codebooks)
        place_B = np.searchsorted(self.key_N, key_B).clip(max=len(self.key_N) - 1)
        known_B: np.ndarray = self.key_N[place_B] == key_B
        return known_B


def _keys(code_NT: np.ndarray, codebooks: Sequence[int]) -> np.ndarray:
    key_N = np.zeros(len(code_NT), dtype=np.int64)
    for level, size in enumerate(codebooks):
        key_N = key_N * size + code_NT[:, level]
    return key_N


@torch.no_grad()
def probe(model: Any, context: ContextBatch, live: LiveSids, generator: torch.Generator) -> dict[str, float]:
    """ "entropy_share", "invalid_share" and "collapsed_share" of one free draw of a SID for each context.

    Drawn level by level from the model's own probabilities, without the catalogue's trie: what a trie would hide
    shows here first.
    """
    state = model.encode(context)
    trunk, cache, parent = model.trunk(state), None, None
    drawn: list[Tensor] = []
    share = 0.0
    for level, size in enumerate(model.config.codebooks):
        code_B1 = drawn[-1] if drawn else None
        h_B1D, cache = model.step(level, trunk, state, code_B1, parent, cache)
        path_B1t = torch.stack(drawn, -1) if drawn else torch.zeros(context.size, 1, 0, dtype=torch.int64)
        logits_BV = (model.head(level, h_B1D) + model.prior(level, state, path_B1t.to(h_B1D.device)))[:, 0].float()
        p_BV = logits_BV.softmax(-1)
        if level == 0:
            entropy = -(p_BV * p_BV.clamp_min(1e-12).log()).sum(-1).mean()
            share = float(entropy) / max(float(np.log(size)), 1e-9)
        drawn.append(torch.multinomial(p_BV.cpu(), 1, generator=generator).to(p_BV.device))
    code_BT = torch.stack(drawn, -1)[:, 0].cpu().numpy()
    distinct = len(np.unique(code_BT, axis=0))
    return {
        "entropy_share": share,
        "invalid_share": float(1 - live.has(code_BT).mean()),
        "collapsed_share": 1 - distinct / len(code_BT),
    }
