"""Every prefix of a user as a sample, in one pass over a shared context: for logs whose requests are items in order.

A context token depends on its event alone, so the keys and values of a user's events serve all of his prefixes; which
of them a prefix sees is a causal mask. One pass then costs a user's events once instead of once a target, and the loss
is that of one sample a target. Times, counts and places have no part in it: where a log has them, rows (rows.py) do.

Shapes: B users, H events of one user, P prefixes, S context length, T SID levels, M = 1 target a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adbeam.features.batch import ContextBatch, TrainBatch
from adbeam.features.spec import FeatureSpec
from adbeam.features.tokens import SHORT
from adbeam.records import ACTIONS

WINDOW_BATCHES = 16


def history_context(histories: Sequence[np.ndarray], spec: FeatureSpec, places: int | None = None) -> ContextBatch:
    """Contexts of users whose events have the codes [H, T], oldest first; the newest `short_length` count.

    `places` is S, the model's context length by default; shorter ones serve training only.
    """
    S = spec.context_length if places is None else places
    code_BST = np.full((len(histories), S, spec.levels), -1, dtype=np.int64)
    for code_ST, history in zip(code_BST, histories, strict=True):
        newest = history[-min(S - 1, spec.short_length) :]
        code_ST[1 : 1 + len(newest)] = newest
    code = torch.from_numpy(code_BST)
    mask_BS = code[..., 0] >= 0
    feature_BSC = torch.zeros(*mask_BS.shape, len(spec.token_sizes), dtype=torch.int64)
    feature_BSC[..., 0] = SHORT * mask_BS
    feature_BSC[..., 1] = ACTIONS.index("conversion") * mask_BS
    mask_BS[:, 0] = True
    return ContextBatch(
        torch.zeros(len(histories), len(spec.static_sizes), dtype=torch.int64), code, feature_BSC, mask_BS
    )


def prefix_batch(histories: Sequence[np.ndarray], spec: FeatureSpec) -> TrainBatch:
    """Each event but the first as the target of those before it. Histories hold 2 to short_length + 1 events."""
    P = max(map(len, histories)) - 1
    code_BPT = np.zeros((len(histories), P, spec.levels), dtype=np.int64)
    weight_BP = np.zeros((len(histories), P), dtype=np.float32)
    for row, history in enumerate(histories):
        code_BPT[row, : len(history) - 1] = history[1:]
        weight_BP[row, : len(history) - 1] = 1.0
    visible_P = torch.arange(2, P + 2)
    return TrainBatch(
        context=history_context([history[:-1] for history in histories], spec, places=P + 1),
        visible_BP=visible_P.expand(len(histories), P),
        code_BPMT=torch.from_numpy(code_BPT)[:, :, None],
        bucket_BPM=torch.full((len(histories), P, 1), -1),
        weight_BPM=torch.from_numpy(weight_BP)[:, :, None],
    )


def mean_over_targets(losses: Mapping[str, Tensor], batch: TrainBatch, lambda_mtp: float = 0.0) -> Tensor:
    """L_SID + lambda_mtp L_MTP, every target counting once however many its user has; padding does not count."""
    loss_BPM = losses["sid"] + (lambda_mtp * losses["mtp"] if lambda_mtp else 0.0)
    return (loss_BPM * batch.weight_BPM).sum() / batch.weight_BPM.sum()


@dataclass(frozen=True)
class PrefixOrder:
    """Which users make up which batch: about `targets` targets each, little padding, the same for a seed."""

    length_U: np.ndarray
    """Events of each user, 2 or more."""
    targets: int
    seed: int

    def batches(self, epoch: int) -> list[np.ndarray]:
        """User numbers of each batch of an epoch; every user comes once.

        Users are shuffled, cut into windows of WINDOW_BATCHES batches, sorted by length inside a window and cut into
        batches, which are shuffled.
        """
        rng = np.random.default_rng((self.seed, epoch))
        shuffled_U = rng.permutation(len(self.length_U))
        window = max(1, WINDOW_BATCHES * self.targets // int(np.mean(self.length_U - 1)))
        batches: list[np.ndarray] = []
        for start in range(0, len(shuffled_U), window):
            users = shuffled_U[start : start + window]
            batches += self._cut(users[np.argsort(self.length_U[users], kind="stable")])
        return [batches[place] for place in rng.permutation(len(batches))]

    def padding_share(self, epoch: int) -> float:
        """Share of the places for targets that hold none."""
        batches = self.batches(epoch)
        places = sum(len(users) * int(self.length_U[users].max() - 1) for users in batches)
        return 1 - int((self.length_U - 1).sum()) / places

    def _cut(self, users: np.ndarray) -> Iterator[np.ndarray]:
        """Consecutive users whose rectangle of targets stays within `targets`."""
        first = 0
        for place in range(1, len(users) + 1):
            if place == len(users) or (place - first + 1) * (self.length_U[users[place]] - 1) > self.targets:
                yield users[first:place]
                first = place
