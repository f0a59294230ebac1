"""The mix tower (LFM4Ads 3.1, 3.2): UR, IR and the context meet in cross layers, then in a branch for ads or content.

    x_0 = [UR; IR; context]                          CR_0
    x_{l+1} = (W_l x_l + b_l) * x_0 + x_l            CR_1 ... (DCN v2)
    x_{l+1} = W_l relu(x_l) + b_l, in each branch    the last CRs; those of the ad branch are used

Shapes: B rows, D width of the mix tower, S scenes with the unknown one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adbeam.foundation.config import FoundationConfig


class CrossLayers(nn.Module):
    """DCN v2: each layer multiplies with the input."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x_BD: Tensor) -> list[Tensor]:
        """The input and the output of every layer, [B, D] each."""
        found = [x_BD]
        for layer in self.layers:
            found.append(layer(found[-1]) * x_BD + found[-1])
        return found


class Branch(nn.Module):
    """Hidden layers and heads of one kind of row."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.head = nn.Linear(width, heads)

    def forward(self, x_BD: Tensor) -> list[Tensor]:
        """The output of every hidden layer, [B, D] each."""
        found = [x_BD]
        for layer in self.layers:
            found.append(layer(torch.relu(found[-1])))
        return found[1:]

    def logits(self, last_BD: Tensor) -> Tensor:
        """What the heads say of the last hidden layer."""
        found: Tensor = self.head(torch.relu(last_BD))
        return found


class MixTower(nn.Module):
    """Cross layers for all rows, a branch each for content and ads; every scene has its own heads in the ad branch."""

    def __init__(self, config: FoundationConfig, width: int, scenes: int) -> None:
        super().__init__()
        self.scenes = scenes
        self.cross = CrossLayers(width, config.cross_layers)
        self.content = Branch(width, config.branch_layers, 2)
        self.ads = Branch(width, config.branch_layers, 2 * scenes)

    def representations(self, x_BD: Tensor) -> list[Tensor]:
        """CR_0 ... CR_k of the ad branch, [B, D] each."""
        crossed = self.cross(x_BD)
        return [*crossed, *self.ads(crossed[-1])]

    def forward(self, x_BD: Tensor, scene_B: Tensor, ad_B: Tensor) -> Tensor:
        """Logits of click and conversion [B, 2], each row by its own branch: the other has no gradient of it."""
        crossed_BD = self.cross(x_BD)[-1]
        content_B2 = self.content.logits(self.content(crossed_BD)[-1])
        of_scenes_BS2 = self.ads.logits(self.ads(crossed_BD)[-1]).view(-1, self.scenes, 2)
        of_ads_B2 = of_scenes_BS2.gather(1, scene_B[:, None, None].expand(-1, 1, 2))[:, 0]
        return torch.where(ad_B[:, None] > 0, of_ads_B2, content_B2)
