"""SASRec with sampled softmax on the same file: causal self-attention over items, the in-house neighbour of LazyAR.

Loss of a place: cross-entropy of the next item against uniformly drawn items, shared by the batch, which are corrected
for how often they are drawn; an item that is drawn and is the target does not count twice.

Shapes: B users, H places, D width, N items, C negatives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.training.data.prefixes import PrefixOrder
from benchmarks.beauty.data import CUTOFFS, Beauty, Split, table_row
from benchmarks.beauty.fit import Fit, Recipe

RECIPE = Recipe(epochs=200, patience=15, learning_rate=1e-3, weight_decay=0.0, average=0.995, validate_from=5)
BATCH_TARGETS = 1024
HISTORY = 50
WIDTH, LAYERS, HEADS, DROPOUT = 64, 2, 2, 0.5
NEGATIVES = 1024
JUDGED_TOGETHER = 512
NONE = 0
"""Item number of padding; item n is n + 1."""


class SASRec(nn.Module):
    """Self-attentive sequential recommendation (Kang & McAuley 2018), pre-norm."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.item = nn.Embedding(items + 1, WIDTH, padding_idx=NONE)
        self.place = nn.Embedding(HISTORY, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, WIDTH * 4, DROPOUT, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.dropout = nn.Dropout(DROPOUT)
        for table in (self.item, self.place):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, item_BH: Tensor) -> Tensor:
        """[B, H, D] states; histories are aligned to the right, NONE before them."""
        H = item_BH.shape[1]
        place = self.place.weight[HISTORY - H :]
        x = self.dropout(self.item(item_BH) * math.sqrt(WIDTH) + place)
        unseen_HH = torch.ones(H, H, dtype=torch.bool, device=x.device).triu(1)
        # A place before the history looks at itself, so that no row of the mask is empty; nobody looks at it.
        hidden = unseen_HH | (item_BH == NONE)[:, None]
        hidden = hidden & ~torch.eye(H, dtype=torch.bool, device=x.device)
        return self.layers(x, mask=hidden.repeat_interleave(HEADS, dim=0))

    def score(self, h_BD: Tensor) -> Tensor:
        """[B, N]."""
        return h_BD @ self.item.weight[1:].T


class SASRecRow:
    """One trained row."""

    def __init__(self, data: Beauty, seed: int, folder: Path, recipe: Recipe = RECIPE) -> None:
        self.data, self.seed = data, seed
        torch.manual_seed(seed)
        self.model = SASRec(data.items)
        groups = [{"params": list(self.model.parameters()), "weight_decay": recipe.weight_decay}]
        shape = WIDTH, LAYERS, HEADS, DROPOUT, NEGATIVES, BATCH_TARGETS, data.fingerprint
        self.fit = Fit(self.model, groups, recipe, folder, seed, *shape)
        self.training = data.training(HISTORY + 1)
        self.order = PrefixOrder(np.array([len(items) for items in self.training]), BATCH_TARGETS, seed)

    def run(self, stop_at: float) -> bool:
        """Train; true when training is over."""
        return self.fit.run(self._batches, self._loss, self._judge, stop_at)

    def table(self, split: Split, *, new_only: bool = False) -> dict[str, float]:
        """Metrics of the best epoch over all users; `new_only` leaves out what the user had before."""
        return self._metrics(self.fit.best_model(), split, None, new_only)

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        for users in self.order.batches(epoch):
            yield right_aligned([self.training[user] for user in users])

    def _loss(self, item_BH: Tensor) -> Tensor:
        target_BH = item_BH[:, 1:]
        real_BH = (target_BH != NONE) & (item_BH[:, :-1] != NONE)
        h_KD, target_K = self.model(item_BH[:, :-1])[real_BH], target_BH[real_BH]
        drawn_C = torch.randint(1, self.data.items + 1, (NEGATIVES,))
        table = self.model.item.weight
        own_K = (h_KD * table[target_K]).sum(-1)
        # Uniform draws stand for all items: each counts N / C times.
        other_KC = h_KD @ table[drawn_C].T + math.log(self.data.items / NEGATIVES)
        other_KC = other_KC.masked_fill(drawn_C == target_K[:, None], float("-inf"))
        logits = torch.cat([own_K[:, None], other_KC], dim=1)
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))

    def _judge(self, model: nn.Module) -> dict[str, float]:
        metrics = self._metrics(model, "validation", self.data.validation_users, False)
        return {"ndcg@10": metrics["ndcg@10"], "recall@10": metrics["recall@10"]}

    def _metrics(self, model: nn.Module, split: Split, users: np.ndarray | None, new_only: bool) -> dict[str, float]:
        histories, target_U = self.data.judged(split, users)
        return table_row(self.ranked(model, histories, max(CUTOFFS), new_only=new_only)[0], target_U)

    @torch.inference_mode()
    def ranked(
        self, model: nn.Module, histories: list[np.ndarray], most: int, *, new_only: bool
    ) -> tuple[list[list[int]], list[list[float]]]:
        """(the first `most` items after each history, their scores); `new_only` leaves out those of the history."""
        assert isinstance(model, SASRec)
        ranked: list[list[int]] = []
        scores: list[list[float]] = []
        for start in range(0, len(histories), JUDGED_TOGETHER):
            part = histories[start : start + JUDGED_TOGETHER]
            score_BN = model.score(model(right_aligned(part, HISTORY))[:, -1])
            if new_only:
                for score_N, history in zip(score_BN, part, strict=True):
                    score_N[torch.from_numpy(history)] = float("-inf")
            best = score_BN.topk(most)
            ranked += best.indices.tolist()
            scores += best.values.tolist()
        return ranked, scores


def right_aligned(histories: list[np.ndarray], longest: int = HISTORY + 1) -> Tensor:
    """int64 [B, H]: the newest `longest` items of each, NONE before them."""
    H = min(longest, max(map(len, histories)))
    item_BH = np.full((len(histories), H), NONE, dtype=np.int64)
    for row_H, history in zip(item_BH, histories, strict=True):
        newest = history[-H:] + 1
        row_H[H - len(newest) :] = newest
    return torch.from_numpy(item_BH)
