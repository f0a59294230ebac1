"""Co-occurrence learning end to end: training events -> Swing neighbours -> projection (GR4AD 1.2.1).

Shapes: N items of the sample, M items of the events, K neighbours, E features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from adbeam.tokens.config import CooccurrenceConfig
from adbeam.tokens.cooccurrence.contrastive import Projection, train_projection
from adbeam.tokens.cooccurrence.swing import user_items
from adbeam.tokens.cooccurrence.swing_job import swing_ranges
from adbeam.tokens.embedders.behaviour import Interactions

PREFIX = "projection."


def swing_neighbours(
    events: Interactions, config: CooccurrenceConfig, *, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """(items [M, K], scores [M, K]): the Swing neighbours of every item of `events`, -1 where there are fewer."""
    chosen_UM = user_items(events.user_R, events.item_R, len(events.item_ids), max_items=config.max_items_per_user)
    ranges = list(
        swing_ranges(
            chosen_UM,
            workers=workers,
            alpha=config.swing_alpha,
            neighbours=config.neighbours,
            items_per_range=config.items_per_range,
        )
    )
    return np.concatenate([part.item_RK for part in ranges]), np.concatenate([part.score_RK for part in ranges])


def learn_projection(
    content_NE: np.ndarray,
    event_item_N: np.ndarray,
    events: Interactions,
    config: CooccurrenceConfig,
    *,
    seed: int,
    workers: int = 0,
) -> Projection:
    """Fit the projection; `event_item_N` gives each content row's item in `events`, -1 for an item without events.

    Swing is summed here with `workers` = 0, else by that many Ray actors.
    """
    item_MK, score_MK = swing_neighbours(events, config, workers=workers)
    row_M = np.full(len(events.item_ids) + 1, -1)  # the last place answers the neighbour number -1
    row_M[event_item_N[event_item_N >= 0]] = np.flatnonzero(event_item_N >= 0)
    item_NK = np.full((len(content_NE), item_MK.shape[1]), -1)
    score_NK = np.zeros(item_NK.shape, np.float32)
    known_N = event_item_N >= 0
    item_NK[known_N] = row_M[item_MK[event_item_N[known_N]]]
    score_NK[known_N] = np.where(item_NK[known_N] >= 0, score_MK[event_item_N[known_N]], 0)
    return train_projection(content_NE, item_NK, score_NK, config, seed=seed)


def projection_tensors(projection: Projection) -> dict[str, torch.Tensor]:
    """The weights by name, for safetensors."""
    return {PREFIX + name: tensor for name, tensor in projection.state_dict().items()}


def load_projection(tensors: Mapping[str, torch.Tensor]) -> Projection | None:
    """The projection whose weights are among `tensors`; None when there is none."""
    own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    if not own:
        return None
    hidden, features = own["down.weight"].shape
    projection = Projection(features, hidden)
    projection.load_state_dict(own)
    return projection.eval()
