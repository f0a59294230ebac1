"""The user tower and the item tower (LFM4Ads 3.1): UR and IR, which know nothing of each other nor of the scene.

Shapes: B rows, P past events, W embedding width, U width of UR, I width of IR.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from adbeam.foundation.config import FoundationConfig
from adbeam.foundation.data.items import UNKNOWN
from adbeam.foundation.data.rows import COUNTS

ITEM_FIELDS, USER_FIELDS = 5, 3


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Towers(nn.Module):
    """Both towers; they share the table of categories, which the user's past events are told by."""

    def __init__(self, config: FoundationConfig) -> None:
        super().__init__()
        width, attributes = config.embedding_width, config.attribute_buckets
        self.unknown_share = config.unknown_share
        self.user = nn.Embedding(config.user_buckets, width)
        sizes = (config.item_buckets, attributes, attributes, attributes)
        self.keys = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        self.user_dense, self.item_dense = nn.Linear(COUNTS + 1, width), nn.Linear(1, width)
        raw = USER_FIELDS * width, ITEM_FIELDS * width
        towers = config.towers == "mlp"
        self.widths = (config.tower_width, config.tower_width) if towers else raw
        self.user_tower, self.item_tower = (
            mlp([size, *config.tower_hidden, config.tower_width]) if towers else nn.Identity() for size in raw
        )
        for table in (self.user, *self.keys):
            nn.init.normal_(table.weight, std=0.05)

    def users(self, user_B1: Tensor, past_BP: Tensor, dense_BX: Tensor) -> Tensor:
        """UR [B, U]: the user id, the mean of the categories of past events, counts."""
        known_BP1 = (past_BP != UNKNOWN)[:, :, None]
        past_BPW = self.keys[1](past_BP) * known_BP1
        mean_BW = past_BPW.sum(1) / known_BP1.sum(1).clamp_min(1)
        fields = (self.user(self._hidden(user_B1[:, 0])), mean_BW, self.user_dense(dense_BX))
        found: Tensor = self.user_tower(torch.cat(fields, 1))
        return found

    def items(self, item_BK: Tensor, dense_B1: Tensor) -> Tensor:
        """IR [B, I]: id, category, brand, advertiser and price; an id of UNKNOWN leaves the content alone."""
        columns = (self._hidden(item_BK[:, 0]), *item_BK[:, 1:].unbind(1))
        fields = [table(column_B) for table, column_B in zip(self.keys, columns, strict=True)]
        found: Tensor = self.item_tower(torch.cat([*fields, self.item_dense(dense_B1)], 1))
        return found

    def _hidden(self, id_B: Tensor) -> Tensor:
        """Ids, of which some are hidden while the model learns."""
        if not self.training or not self.unknown_share:
            return id_B
        return torch.where(torch.rand(id_B.shape, device=id_B.device) < self.unknown_share, UNKNOWN, id_B)
