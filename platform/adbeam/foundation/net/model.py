"""The foundation: both towers and the mix tower, from rows to logits, and to UR, IR and CR at any layer.

Shapes: B rows, W embedding width, D width of the mix tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.foundation.config import FoundationConfig
from adbeam.foundation.net.mix import MixTower
from adbeam.foundation.net.towers import Towers

HOURS, WEEKDAYS, CONTEXT_FIELDS = 24, 7, 3


@dataclass(frozen=True)
class RowBatch:
    """Rows as tensors: fields of rows.row_type by name."""

    fields: dict[str, Tensor]

    @classmethod
    def of(cls, row: dict[str, np.ndarray]) -> Self:
        """From arrays [B, ...]; whole numbers become int64."""
        fields = {name: torch.from_numpy(np.array(value)) for name, value in row.items()}
        return cls({name: value if value.is_floating_point() else value.long() for name, value in fields.items()})

    def __len__(self) -> int:
        return len(self.fields["user"])

    def __getitem__(self, name: str) -> Tensor:
        return self.fields[name]

    def to(self, device: torch.device) -> RowBatch:
        """The same on a device."""
        return RowBatch({name: value.to(device) for name, value in self.fields.items()})


class FoundationNet(nn.Module):
    """The whole model for `scenes` known scenes."""

    def __init__(self, config: FoundationConfig, scenes: int) -> None:
        super().__init__()
        self.towers = Towers(config)
        width = config.embedding_width
        self.context = nn.ModuleList(nn.Embedding(size, width) for size in (scenes + 1, HOURS, WEEKDAYS))
        self.width = sum(self.towers.widths) + CONTEXT_FIELDS * width
        self.mix = MixTower(config, self.width, scenes + 1)

    def users(self, batch: RowBatch) -> Tensor:
        """UR of each row's user."""
        return self.towers.users(batch["user"], batch["past"], batch["user_dense"])

    def items(self, batch: RowBatch) -> Tensor:
        """IR of each row's item."""
        return self.towers.items(batch["item"], batch["item_dense"])

    def mixed(self, batch: RowBatch) -> Tensor:
        """x_0 [B, D], what the mix tower reads: UR, IR, then scene, hour and weekday."""
        context = [table(column_B) for table, column_B in zip(self.context, batch["context"].unbind(1), strict=True)]
        return torch.cat([self.users(batch), self.items(batch), *context], 1)

    def representations(self, batch: RowBatch) -> list[Tensor]:
        """CR_0 ... CR_k of the ad branch, [B, D] each."""
        return self.mix.representations(self.mixed(batch))

    def forward(self, batch: RowBatch) -> Tensor:
        """Logits of click and conversion, [B, 2]."""
        logits: Tensor = self.mix(self.mixed(batch), batch["context"][:, 0], batch["ad"][:, 0])
        return logits


def foundation_loss(logits_B2: Tensor, batch: RowBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """(BCE of both labels, mean over rows, nats; metrics: the same of the ads' and of the content's rows)."""
    loss_B = F.binary_cross_entropy_with_logits(logits_B2, batch["label"], reduction="none").sum(1)
    ad_B, kept_B = batch["ad"][:, 0], loss_B.detach()
    metrics = {"ads_loss": (kept_B * ad_B).mean(), "content_loss": (kept_B * (1 - ad_B)).mean()}
    return loss_B.mean(), metrics
