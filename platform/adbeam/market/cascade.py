"""The cascade that generative recommenders are measured against: two-tower recall, then a DLRM ranker by eCPM.

The towers learn from the log's clicks by softmax over the batch, corrected for popularity; the ranker is the reward
model. Both are trained on the same log as the generative model.

Shapes: B pairs, N ads, L newest clicks of a user, E embedding width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.logs.requests import Request, UserSequence
from adbeam.records import ACTIONS, ITEM_KINDS, SPLITS
from adbeam.rewards.features import KEYS, Past, hash_buckets
from adbeam.rewards.scoring import Question, RewardModel

CLICK, AD = ACTIONS.index("click"), ITEM_KINDS.index("ad")
RECENT = 20
USER_BUCKETS = 8192
WIDTH = 32


class TwoTower(nn.Module):
    """User tower: id and newest clicks. Ad tower: id, category, brand, advertiser."""

    bucket_NK: Tensor

    def __init__(self, bucket_NK: np.ndarray, ads: int) -> None:
        super().__init__()
        self.register_buffer("bucket_NK", torch.from_numpy(bucket_NK.astype(np.int64)), persistent=False)
        self.ad = nn.Embedding(ads + 1, WIDTH, padding_idx=ads)
        self.keys = nn.ModuleList(nn.Embedding(int(bucket_NK[:, k].max()) + 1, WIDTH) for k in range(1, len(KEYS)))
        self.user = nn.Embedding(USER_BUCKETS, WIDTH)
        self.past = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Sequential(nn.Linear(2 * WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))
        for table in (self.ad, self.user, *self.keys):
            nn.init.normal_(table.weight, std=0.1)

    def ads(self, row_B: Tensor) -> Tensor:
        """Unit vectors [B, E] of ads."""
        vector = self.ad(row_B)
        for place, table in enumerate(self.keys, start=1):
            vector = vector + table(self.bucket_NK[row_B, place])
        return F.normalize(vector, dim=-1)

    def users(self, user_B: Tensor, recent_BL: Tensor) -> Tensor:
        """Unit vectors [B, E]; `recent_BL` are rows of ads, the number of ads where there is none."""
        present = (recent_BL < self.ad.num_embeddings - 1).sum(1, keepdim=True).clamp_min(1)
        past = self.past(self.ad(recent_BL).sum(1) / present)
        return F.normalize(self.out(torch.cat([self.user(user_B), past], dim=-1)), dim=-1)


@dataclass(frozen=True)
class Pairs:
    """Clicks to learn from, each with what the user had clicked before."""

    user_B: np.ndarray
    recent_BL: np.ndarray
    ad_B: np.ndarray


def click_pairs(sequences: Iterable[UserSequence], reward: RewardModel) -> Pairs:
    """All clicks on ads of the training split. A conversion follows its click: the towers would learn to repeat."""
    users, recents, ads = [], [], []
    nobody = len(reward.items.ids)
    for sequence in sequences:
        row_H = reward.items.rows(sequence.item_H)
        acted = np.flatnonzero((sequence.action_H == CLICK) & (row_H >= 0))
        recent = np.full(RECENT, nobody)
        for place in acted.tolist():
            if sequence.split_H[place] == SPLITS.index("train") and sequence.kind_H[place] == AD:
                users.append(sequence.user_id)
                recents.append(recent)
                ads.append(int(row_H[place]))
            recent = np.concatenate([recent[1:], [row_H[place]]])
    empty = np.zeros((0, RECENT), dtype=np.int64)
    return Pairs(hash_buckets(users, USER_BUCKETS), np.stack(recents) if recents else empty, np.array(ads, np.int64))


def train_two_tower(pairs: Pairs, reward: RewardModel, seed: int, steps: int = 600, batch: int = 256) -> TwoTower:
    """Softmax over the ads of each batch with logQ correction (Yi et al. 2019), temperature 0.1."""
    torch.manual_seed(seed)
    tower = TwoTower(reward.items.bucket_NK, len(reward.items.ids))
    optimizer = torch.optim.AdamW(tower.parameters(), lr=5e-3, weight_decay=1e-4)
    rng = np.random.default_rng(seed)
    log_q = np.log(np.bincount(pairs.ad_B, minlength=len(reward.items.ids)) + 1e-9) - np.log(len(pairs.ad_B))
    for _ in range(steps):
        chosen = rng.integers(len(pairs.ad_B), size=min(batch, len(pairs.ad_B)))
        ad = torch.from_numpy(pairs.ad_B[chosen])
        user = tower.users(torch.from_numpy(pairs.user_B[chosen]), torch.from_numpy(pairs.recent_BL[chosen]))
        logits = user @ tower.ads(ad).T / 0.1 - torch.from_numpy(log_q[pairs.ad_B[chosen]]).float()
        same = (ad[:, None] == ad[None]) & ~torch.eye(len(ad), dtype=torch.bool)
        loss = F.cross_entropy(logits.masked_fill(same, float("-inf")), torch.arange(len(ad)))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    return tower.eval()


class Cascade:
    """Recalls `recalled` live ads for a request by the towers, orders them by the reward model's eCPM."""

    def __init__(self, tower: TwoTower, reward: RewardModel, catalogue: pa.Table, recalled: int = 64) -> None:
        self.tower, self.reward, self.recalled = tower, reward, recalled
        self.ads = catalogue.column("item_id").to_pylist()
        with torch.inference_mode():
            self._ad_NE = tower.ads(torch.arange(len(self.ads)))

    def rank(self, requests: Sequence[Request], count: int, live_N: np.ndarray) -> list[list[str]]:
        """The first `count` live ads of each request; `live_N` is bool [N], or [B, N] of each request."""
        recalled = self.recall(requests, live_N)
        answers = zip(recalled, self.reward.judge(recalled), strict=True)
        return [[self.ads[row] for row in asked.row_n[np.argsort(-money_n)[:count]]] for asked, money_n in answers]

    @torch.inference_mode()
    def recall(self, requests: Sequence[Request], live_N: np.ndarray) -> list[Question]:
        """What the ranker is asked: of each request the `recalled` live ads nearest to it, the nearest first."""
        pasts = [self._past(request) for request in requests]
        recent = torch.from_numpy(np.stack([_recent(row_H, len(self.ads)) for row_H, _ in pasts]))
        names = [request.sequence.user_id for request in requests]
        user_BE = self.tower.users(torch.from_numpy(hash_buckets(names, USER_BUCKETS)), recent)
        score_BN = (user_BE @ self._ad_NE.T).masked_fill(~torch.from_numpy(live_N), float("-inf"))
        row_Bn = score_BN.topk(min(self.recalled, int(live_N.sum(-1).min())), dim=1).indices.numpy()
        return [
            Question(past, request.now_ms, request.scene, request.sequence.user_id, row_n, request.told)
            for request, (_, past), row_n in zip(requests, pasts, row_Bn, strict=True)
        ]

    def _past(self, request: Request) -> tuple[np.ndarray, Past]:
        """(rows of the ads clicked before, all events before)."""
        sequence = request.sequence
        past = Past.of(sequence, self.reward.items.rows(sequence.item_H)).before(request.now_ms)
        return past.row_H[past.action_H >= CLICK], past


def _recent(row_H: np.ndarray, nobody: int) -> np.ndarray:
    newest = row_H[-RECENT:]
    return np.concatenate([np.full(RECENT - len(newest), nobody), newest]).astype(np.int64)
