"""A prior over codes from what other users chose after the same items: the neighbours of the newest events vote.

Not part of GR4AD. Directed counts of pairs of items, with similar texts beside them (tokens/cooccurrence/directed.py),
know single items better than weights do, and weights know everything else. Each of a user's newest events lets the
neighbours of its item vote for their own codes (model/priors/votes.py); e counts events back from the newest:

    w_t(neighbour) = exp(base_t + power_t log(score) + age_t[e] + action_t[action])

with learned numbers that begin as the count model, score^1 age_decay^e. The table is part of the weights, so that
training, search and a replica read one table; it knows items by their semantic IDs, and an ad that comes later shares
the votes for every code that it has in common with a neighbour.

In training a user's own pairs stand in the counts, the pair with the very target among them. They are taken out again:
from each score, what every pair of this user's row has added to it.

Shapes: B contexts, P prefixes of one, S context, I items (distinct SIDs), K neighbours of an item, E newest events that
vote, T SID levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from adbeam.features.batch import ContextBatch, TrainBatch
from adbeam.features.spec import FeatureSpec
from adbeam.features.tokens import SHORT
from adbeam.model.config import ModelConfig
from adbeam.model.priors.votes import GAIN, Votes, weight_of

FIRST_WEIGHT = 100.0
"""Of a score of 1 at the start."""
REMAINDER = 0.01
"""A score of which less than this share is left without the user's own pairs was all his own."""
TABLE = ("key_I", "code_IKT", "score_IK", "unit_IK")


@dataclass(frozen=True)
class Prefixes:
    """What the prefixes of a training row see, and what comes after its context."""

    visible_BP: Tensor
    """int64, how many of the context's tokens prefix p sees."""
    last_BT: Tensor
    """int64, the last target's codes; -1 in a row without targets."""

    @classmethod
    def of(cls, batch: TrainBatch) -> Self | None:
        """Those of rows with several prefixes; None where a context is one request."""
        if batch.code_BPMT.shape[1] == 1:
            return None
        there_BP = batch.weight_BPM[..., 0] > 0
        place_BP = torch.arange(there_BP.shape[1], device=there_BP.device) * there_BP
        last_B = place_BP.max(dim=1).values
        last_BT = batch.code_BPMT[torch.arange(len(last_B), device=last_B.device), last_B, 0]
        return cls(batch.visible_BP, last_BT.masked_fill(~there_BP.any(1)[:, None], -1))


class NeighbourPrior(nn.Module):
    """Votes of the neighbours; without a table nobody votes."""

    key_I: Tensor
    """int64 in rising order, the codes of an item as one number."""
    code_IKT: Tensor
    """int32, codes of the neighbours; -1 where there is none."""
    score_IK: Tensor
    """float32, 0 where there is no neighbour."""
    unit_IK: Tensor
    """float32, what a pair of events of weight 1 adds to the score."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.neighbour_prior is not None
        self.settings, self.codebooks = config.neighbour_prior, config.codebooks
        T, K = config.levels, self.settings.neighbours
        self.base = nn.Parameter(torch.empty(T))
        self.power = nn.Parameter(torch.empty(T))
        self.age = nn.Parameter(torch.empty(self.settings.history_events, T))
        self.action = nn.Parameter(torch.empty(FeatureSpec.of(config).token["action"], T))
        self.register_buffer("key_I", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("code_IKT", torch.zeros(0, K, T, dtype=torch.int32))
        self.register_buffer("score_IK", torch.zeros(0, K))
        self.register_buffer("unit_IK", torch.zeros(0, K))
        self.initialise()

    def initialise(self) -> None:
        """Start as the counts: votes proportional to the score, less the older the event."""
        age_E = torch.arange(len(self.age), dtype=torch.float32) * math.log(self.settings.age_decay)
        with torch.no_grad():
            self.base.fill_(math.log(FIRST_WEIGHT) / GAIN)
            self.power.fill_(1 / GAIN)
            self.age.copy_(age_E[:, None].expand_as(self.age) / GAIN)
            self.action.zero_()

    def fill(self, table: Mapping[str, Tensor]) -> None:
        """Take a table over: the arrays of TABLE by name."""
        for name in TABLE:
            own: Tensor = getattr(self, name)
            setattr(self, name, table[name].to(device=own.device, dtype=own.dtype))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Weights bring a table of their own size."""
        for name in TABLE:
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_zeros(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, context: ContextBatch, prefixes: Prefixes | None = None) -> Votes:
        """Votes of E * K neighbours of each context, or of each prefix: [B * P, E * K, T]. The user's own pairs are
        taken out while the module trains on prefixes."""
        B, K, T = context.size, self.settings.neighbours, len(self.codebooks)
        event_BS = context.mask_BS & (context.code_BST[..., 0] >= 0) & (context.feature_BSC[..., 0] == SHORT)
        if not len(self.key_I):
            nothing = torch.zeros(B if prefixes is None else prefixes.visible_BP.numel(), 0, T, device=event_BS.device)
            return Votes(nothing.long(), nothing, False, 1 if prefixes is None else prefixes.visible_BP.shape[1])
        key_BS = self._key(context.code_BST).masked_fill(~event_BS, -1)
        row_BS = torch.searchsorted(self.key_I, key_BS.contiguous()).clamp_max(len(self.key_I) - 1)
        known_BS = self.key_I[row_BS] == key_BS
        place_BPE, there_BPE = _newest(event_BS, None if prefixes is None else prefixes.visible_BP, len(self.age))
        P = place_BPE.shape[1]
        place_BN = place_BPE.flatten(1)
        row_BN = row_BS.gather(1, place_BN)
        score_BNK, code_BNKT = self.score_IK[row_BN].float(), self.code_IKT[row_BN].long()
        if prefixes is not None and self.training:
            score_BNK = score_BNK - self._own(key_BS, row_BS, prefixes.last_BT).gather(
                1, place_BN[..., None].expand(-1, -1, K)
            )
            score_BNK = score_BNK * (score_BNK > REMAINDER * self.score_IK[row_BN])
        there_BNK = (known_BS.gather(1, place_BN) & there_BPE.flatten(1))[..., None] & (score_BNK > 0)
        action_BN = context.feature_BSC[..., 1].gather(1, place_BN)
        event_BNT = self.base + self.age.repeat(P, 1) + self.action[action_BN]
        log_BNK1 = score_BNK.clamp_min(1e-9).log()[..., None]
        log_weight_BNKT = event_BNT[:, :, None] + self.power * log_BNK1
        shape = (B * P, len(self.age) * K)
        weight = weight_of(log_weight_BNKT.reshape(*shape, T), there_BNK.reshape(shape))
        return Votes(code_BNKT.reshape(*shape, T), weight, of_history=False, prefixes=P)

    def _own(self, key_BS: Tensor, row_BS: Tensor, last_BT: Tensor) -> Tensor:
        """float32 [B, S, K]: what the pairs of this row add to the score of each neighbour of each of its items."""
        settings = self.settings
        length_B = (key_BS >= 0).sum(1) + 1
        order_BS = (key_BS >= 0).cumsum(1) - 1
        sequence_BS = torch.full_like(torch.cat([key_BS, key_BS[:, :1]], dim=1), -1)
        # Events stand one behind the other here whatever lies between them, the last target behind them all.
        sequence_BS.scatter_(1, torch.where(key_BS >= 0, order_BS, sequence_BS.shape[1] - 1), key_BS)
        sequence_BS.scatter_(1, length_B[:, None] - 1, self._key(last_BT)[:, None])
        other_BSK = self._key(self.code_IKT[row_BS].long())
        total_BSK = torch.zeros(other_BSK.shape, device=key_BS.device)
        for distance in range(1, settings.window_events + 1):
            weight = settings.distance_decay ** (distance - 1)
            for step, share in ((distance, 1.0), (-distance, settings.backward_weight)):
                if share:
                    at_BS = order_BS + step
                    inside_BS = (at_BS >= 0) & (at_BS < length_B[:, None])
                    found_BS = sequence_BS.gather(1, at_BS.clamp(0, sequence_BS.shape[1] - 1))
                    same_BSK = (found_BS[..., None] == other_BSK) & inside_BS[..., None]
                    total_BSK = total_BSK + weight * share * same_BSK
        damping_B = length_B.float() ** -settings.length_damping
        return total_BSK * self.unit_IK[row_BS].float() * damping_B[:, None, None]

    def _key(self, code_nT: Tensor) -> Tensor:
        """int64 [...]: the codes of an item as one number; below 0 where there is none."""
        key_n: Tensor = sid_key(code_nT, self.codebooks)
        return key_n


def sid_key(code_nT: Any, codebooks: tuple[int, ...]) -> Any:
    """Codes [..., T] of a tensor or an array as one number each, in the order of the codes; -1 of codes that are -1."""
    key_n = code_nT[..., 0] * 1
    for level, size in enumerate(codebooks[1:], start=1):
        key_n = key_n * size + code_nT[..., level]
    none_n = code_nT[..., 0] < 0
    return key_n * ~none_n - 1 * none_n


def _newest(event_BS: Tensor, visible_BP: Tensor | None, events: int) -> tuple[Tensor, Tensor]:
    """(places int64 [B, P, E] of each prefix's newest events, newest first; bool, whether there are so many)."""
    number_BS = event_BS.cumsum(1)
    count_BP = number_BS[:, -1:]
    if visible_BP is not None:
        count_BP = number_BS.gather(1, (visible_BP - 1).clamp(0, event_BS.shape[1] - 1))
    wanted_BPE = count_BP[..., None] - torch.arange(events, device=event_BS.device)
    place = torch.searchsorted(number_BS, wanted_BPE.clamp_min(1).flatten(1).contiguous())
    return place.clamp_max(event_BS.shape[1] - 1).view_as(wanted_BPE), wanted_BPE > 0
