"""How the weights are initialised: as a model that reads the history aloud.

Repeat conversions are a large part of any ad log, and a model that must first find out how to copy a code from its
context to its output spends most of a short training on that. So the maps that a copied code passes share one random
projection R per group of layers: the context processor projects tokens by R, queries look for what resembles them (R
again), and W_o leads back by R transposed into the space of the code embeddings, which are also the output heads.
On top lies the usual noise of variance 1/fan-in, and every weight is free to move from there.

Shapes: D width, G context heads, d head width, L groups of layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adbeam.model.codes import CodeTable
from adbeam.model.heads import SidDecoder
from adbeam.model.layers import Block

CODE_SCALE = 0.1
"""Size of code embeddings: they are the output heads too, and nothing is known yet about any code."""
FEATURE_SCALE = 0.3
"""Size of feature embeddings against code embeddings, so that a token is first of all its item."""
NOISE = 0.3
"""Share of the usual noise in the maps that begin as R."""
QUERY_SCALE = 0.5
POSITION_STD = 0.1


@torch.no_grad()
def initialise(model: SidDecoder) -> None:
    """Draw all weights of `model` anew, from torch's random numbers."""
    config = model.config
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            # What adds to the residual stream is smaller the more layers add to it.
            scale = (2 * config.layers) ** -0.5 if name.endswith(".out") else 1.0
            nn.init.normal_(module.weight, std=scale * module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, CodeTable):
            nn.init.normal_(module.weight, std=CODE_SCALE * config.width**-0.5)
        elif isinstance(module, nn.EmbeddingBag):
            nn.init.normal_(module.weight, std=FEATURE_SCALE * CODE_SCALE * config.width**-0.5)
    nn.init.normal_(model.steps.position, std=POSITION_STD)
    nn.init.normal_(model.steps.bos, std=CODE_SCALE * config.width**-0.5)
    if config.copy_at_start:
        _read_aloud(model)
    if config.history_from_zero and model.context.history is not None:
        for name, parameter in model.context.history.named_parameters():
            if ".out." in name:
                nn.init.zeros_(parameter)


def _read_aloud(model: SidDecoder) -> None:
    config = model.config
    groups, heads, width = config.context_kv_groups, config.context_kv_heads, config.head_width
    projection_LRD = torch.stack([_orthogonal(heads * width, model) for _ in range(groups)])
    for name, weight in model.context.pathways.named_parameters():
        if name.endswith("weight"):
            slices = weight.view(-1, groups, heads * width, config.width)
            slices.mul_(NOISE).add_(projection_LRD)
    share = config.heads // heads
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        projection_GdD = projection_LRD[index * groups // config.layers].view(heads, width, config.width)
        # Query heads that share a context head begin alike.
        by_head_DD = projection_GdD.repeat_interleave(share, dim=0).view(config.width, config.width)
        block.cross.query.weight.mul_(NOISE).add_(QUERY_SCALE * by_head_DD)
        block.cross.out.weight.mul_(NOISE).add_(by_head_DD.T / share)


def _orthogonal(rows: int, model: SidDecoder) -> Tensor:
    matrix = torch.empty(rows, model.config.width, device=model.steps.bos.device)
    return nn.init.orthogonal_(matrix)
