"""From stored rows to the batch a model reads: weights, eCPM buckets, and the empty target columns cut off.

Shapes: B requests, S context length, T SID levels, M targets, U sampled users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import torch

from adbeam.features.batch import ContextBatch, TrainBatch
from adbeam.features.contexts import Contexts
from adbeam.objectives.ecpm import EcpmBuckets
from adbeam.objectives.weights import mixed_weights, user_weight
from adbeam.training.data.list_rows import ListFormat
from adbeam.training.data.rows import RowFormat, targets_of


@dataclass(frozen=True)
class CandidateBatch:
    """Lists as the model and the list loss read them: the candidates are the targets of one prefix each."""

    batch: TrainBatch
    reward_BN: torch.Tensor
    """float32, money; NaN where unknown."""
    reference_BN: torch.Tensor
    """float32, log-probability of the generating model in nats; NaN where not stored."""
    mask_BN: torch.Tensor
    """bool, true where there is a candidate."""

    def to(self, device: torch.device | str) -> CandidateBatch:
        """The same on another device."""
        reward_BN, reference_BN = self.reward_BN.to(device), self.reference_BN.to(device)
        return CandidateBatch(self.batch.to(device), reward_BN, reference_BN, self.mask_BN.to(device))


@dataclass(frozen=True)
class BatchMaker:
    """Turns tables of rows into batches."""

    format: RowFormat
    buckets: EcpmBuckets
    user_value_U: np.ndarray
    """Ad values of a sample of the users, in rising order; empty leaves w_user out."""
    lists: ListFormat | None = None
    """Of the lists that join the requests."""
    mixture: tuple[float, ...] = (1.0,)
    """omega_j of the prediction heads (GPR eq 3)."""

    def list_parts(self, table: pa.Table, count: int) -> Iterator[CandidateBatch]:
        """The lists of `table` in `count` batches of nearly equal size."""
        edges = np.linspace(0, len(table), count + 1).round().astype(int)
        for start, end in pairwise(edges.tolist()):
            yield self.candidates(table.slice(start, end - start))

    def candidates(self, table: pa.Table) -> CandidateBatch:
        """All lists of `table`, as wide as the longest. Candidates have no eCPM bucket: a reward is money of a thousand
        exposures, while buckets divide what conversions brought."""
        assert self.lists is not None
        row = self.lists.from_table(table)
        n = max(1, int(row["candidates"].max(initial=0)))
        mask_BN = np.arange(n) < row["candidates"][:, None]
        context = self._context(row)
        batch = TrainBatch(
            context=context,
            visible_BP=torch.full((len(table), 1), context.code_BST.shape[1]),
            code_BPMT=torch.from_numpy(row["candidate_NT"][:, :n].astype(np.int64))[:, None],
            bucket_BPM=torch.full((len(table), 1, n), -1),
            weight_BPM=torch.from_numpy(mask_BN.astype(np.float32))[:, None],
        )
        reward_BN, reference_BN = (
            torch.from_numpy(row[name][:, :n].copy()) for name in ("reward_N", "log_probability_N")
        )
        return CandidateBatch(batch, reward_BN, reference_BN, torch.from_numpy(mask_BN))

    def batch(self, table: pa.Table) -> TrainBatch:
        """All rows of `table` as one batch, as narrow as its longest context and its longest list of targets: a prefix
        a request with M targets, or with `format.prefixes` P prefixes a user with one target each."""
        row = self.format.from_table(table)
        weight_BM = row["weight_M"] * self._user_weight(row["user_value"])[:, None]
        filled = max(1, int(targets_of(row["weight_M"]).max(initial=0)))
        value_BM, weight_BM = row["value_M"][:, :filled], weight_BM[:, :filled]
        context = self._context(row)
        code_BMT = torch.from_numpy(row["target_MT"][:, :filled].astype(np.int64))
        bucket_BM, weight = self._bucket(value_BM, weight_BM), torch.from_numpy(weight_BM.astype(np.float32))
        if self.format.prefixes:  # every target is the only one of its prefix; padding sees the static token
            visible_BP = torch.from_numpy(row["visible_M"][:, :filled].astype(np.int64)).clamp_min(1)
            return TrainBatch(context, visible_BP, code_BMT[:, :, None], bucket_BM[:, :, None], weight[:, :, None])
        head_BM = row["head_M"][:, :filled] if self.format.later else None
        if head_BM is not None:
            weight = torch.from_numpy(mixed_weights(weight_BM, head_BM, self.mixture))
        return TrainBatch(
            context=context,
            visible_BP=torch.full((len(table), 1), context.code_BST.shape[1]),
            code_BPMT=code_BMT[:, None],
            bucket_BPM=bucket_BM[:, None],
            weight_BPM=weight[:, None],
            head_BPM=None if head_BM is None else torch.from_numpy(head_BM.astype(np.int64))[:, None],
        )

    def parts(self, table: pa.Table, count: int) -> Iterator[TrainBatch]:
        """The rows in `count` batches of nearly equal size, those with few targets together: less padding."""
        if count > 1:
            targets_B = targets_of(self.format.from_table(table)["weight_M"])
            table = table.take(pa.array(np.argsort(targets_B, kind="stable")))
        edges = np.linspace(0, len(table), count + 1).round().astype(int)
        for start, end in pairwise(edges.tolist()):
            yield self.batch(table.slice(start, end - start))

    def _context(self, row: dict[str, np.ndarray]) -> ContextBatch:
        """The contexts of requests or lists, without the places where no row has a token."""
        kept_S = _places_with_tokens(row["code_ST"])
        code_BST, feature_BSC = row["code_ST"][:, kept_S], row["feature_SC"][:, kept_S]
        short = int((kept_S[1:] < 1 + self.format.short_length).sum())
        trends = row.get("trend_code_NT"), row.get("trend_feature_NC")
        return Contexts(row["static_F"], code_BST, feature_BSC, *trends, short_places=short).batch()

    def _user_weight(self, user_value_B: np.ndarray) -> np.ndarray:
        """w_user [B] (GR4AD 1.5), read off the weights of the sampled users."""
        if not len(self.user_value_U):
            return np.ones_like(user_value_B)
        weight_B: np.ndarray = np.interp(user_value_B, self.user_value_U, self._weight_U)
        return weight_B

    @cached_property
    def _weight_U(self) -> np.ndarray:
        return user_weight(self.user_value_U)

    def _bucket(self, value_BM: np.ndarray, weight_BM: np.ndarray) -> torch.Tensor:
        known_BM = (weight_BM > 0) & (value_BM > 0)
        return torch.from_numpy(np.where(known_BM, self.buckets.assign(value_BM), -1))


def _places_with_tokens(code_BST: np.ndarray) -> np.ndarray:
    """Places of the context where some row has a token; place 0 has no code and stays."""
    present_S: np.ndarray = np.any(code_BST[:, :, 0] >= 0, axis=0)
    present_S[0] = True
    return present_S.nonzero()[0]
