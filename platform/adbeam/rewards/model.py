"""The reward model: a small DLRM with two heads, pCTR and pCVR.

    eCPM = 1000 * pCTR * pCVR * value of a conversion

Embeddings of the categorical features and a projection of the dense ones interact by dot products (Naumov et al. 2019);
an MLP over them gives two logits. Trained on pCTR and pCTCVR = pCTR * pCVR over all exposures, so that pCVR is not
learnt from clicked exposures alone (ESMM, Ma et al. 2018).

With `transfer` it is told representations of the foundation as well (foundation/adapters.py).

Shapes: B exposures, C categorical and D dense features, W embedding width, R what is told of representations.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.foundation.adapters import RepresentationAdapter
from adbeam.foundation.config import TransferConfig

PER_MILLE = 1000.0


class RewardNet(nn.Module):
    """Logits of click and of conversion after a click."""

    start_C: Tensor
    pair_2P: Tensor

    def __init__(
        self,
        vocabulary: Sequence[int],
        dense: int,
        width: int,
        hidden: Sequence[int],
        transfer: TransferConfig | None = None,
        blocks: Sequence[int] = (),
    ) -> None:
        """`vocabulary` are the sizes of the categorical features; one of 0 has the embeddings of the one before it.
        `blocks` are the widths of the representations' sources."""
        super().__init__()
        self.register_buffer("start_C", torch.tensor(_starts(vocabulary)), persistent=False)
        self.embedding = nn.Embedding(sum(vocabulary), width)
        self.dense = nn.Sequential(nn.Linear(dense, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        fields, beside = len(vocabulary) + 1, 0
        self.adapter: RepresentationAdapter | None = None
        if transfer is not None:
            self.adapter = RepresentationAdapter(transfer.adapter, blocks, fields, width)
            fields, beside = fields + self.adapter.added_fields, self.adapter.added_width
        self.register_buffer("pair_2P", torch.triu_indices(fields, fields, offset=1), persistent=False)
        sizes = [dense + fields * width + fields * (fields - 1) // 2 + beside, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.top = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))
        nn.init.normal_(self.embedding.weight, std=0.05)

    def forward(self, categorical_BC: Tensor, dense_BD: Tensor, told_BR: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(click logit [B], conversion-after-click logit [B])."""
        fields_BCW = torch.cat([self.embedding(categorical_BC + self.start_C), self.dense(dense_BD)[:, None]], dim=1)
        beside: list[Tensor] = []
        if self.adapter is not None and told_BR is not None:
            fields_BCW, beside_BX = self.adapter(fields_BCW, told_BR)
            beside = [beside_BX]
        dots_BCC = fields_BCW @ fields_BCW.transpose(1, 2)
        dots_BP = dots_BCC[:, self.pair_2P[0], self.pair_2P[1]]
        click, conversion = self.top(torch.cat([dense_BD, fields_BCW.flatten(1), dots_BP, *beside], dim=1)).unbind(1)
        return click, conversion


def _starts(vocabulary: Sequence[int]) -> list[int]:
    starts: list[int] = []
    for place, size in enumerate(vocabulary):
        starts.append(sum(vocabulary[:place]) if size else starts[-1])
    return starts


def reward_loss(click_B: Tensor, conversion_B: Tensor, clicked_B: Tensor, converted_B: Tensor) -> Tensor:
    """BCE(pCTR, clicked) + BCE(pCTR * pCVR, converted) as a scalar, nats."""
    log_both_B = F.logsigmoid(click_B) + F.logsigmoid(conversion_B)
    log_not_B = torch.log1p(-log_both_B.exp().clamp_max(1 - 1e-6))
    both_B = -(converted_B * log_both_B + (1 - converted_B) * log_not_B)
    return F.binary_cross_entropy_with_logits(click_B, clicked_B) + both_B.mean()


def probabilities(click_B: Tensor, conversion_B: Tensor) -> tuple[Tensor, Tensor]:
    """(pCTR [B], pCTCVR [B]) before calibration."""
    click_probability_B = torch.sigmoid(click_B)
    return click_probability_B, click_probability_B * torch.sigmoid(conversion_B)


def ecpm(conversion_probability_B: Tensor, value_B: Tensor) -> Tensor:
    """Money of a thousand exposures: 1000 * pCTCVR * value of a conversion, [B]."""
    return PER_MILLE * conversion_probability_B * value_B
