"""LazyAR (and with K = 0 plain AR) on Amazon Beauty: all prefixes in one pass, judged by the beam search that serves.

Shapes: U users, T SID levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from adbeam.catalogue.index import SidIndex
from adbeam.decoding import Decoder, DecodeResult, ItemFilter, Trie
from adbeam.decoding.engines.lazyar import StepModel
from adbeam.features.batch import TrainBatch
from adbeam.features.spec import FeatureSpec
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR
from adbeam.training.config import TrainingConfig
from adbeam.training.data.prefixes import PrefixOrder, history_context, mean_over_targets, prefix_batch
from adbeam.training.state.optimizer import parameter_groups
from benchmarks.beauty.data import CUTOFFS, Beauty, Split, table_row
from benchmarks.beauty.fit import Fit, Recipe

RECIPE = Recipe(epochs=40, patience=10, learning_rate=1e-3, weight_decay=0.05)
BATCH_TARGETS = 512
HISTORY = 50
WIDTHS = (48, 64, 64)
"""Beams: enough that wider ones give the same ten items (checked when the row is finished)."""
WIDE = (256, 384, 384)
WIDE_SHARE = 4
JUDGED_TOGETHER = 128


LAZY_LAYERS = 4
VARIANTS: dict[str, dict[str, Any]] = {
    "lazyar": {},
    "ar": {"lazy_layers": 0},
    "without_recency_bias": {"recency_bias": False},
    "without_path_codes": {"path_codes": False},
    "history_layers": {"history_layers": 2},
    "without_copying": {"copy_at_start": False},
    "primes": {"item_buckets": 65537, "prefix_buckets": 65537},
    "separate_values": {"separate_values": True},
    "narrow": {"width": 64},
    "wide": {"width": 192},
}
"""Rows by name, and what of the shape they change."""


def model_config(data: Beauty, variant: str) -> ModelConfig:
    """The shape of a row."""
    shape = ModelConfig(
        width=128,
        layers=6,
        lazy_layers=LAZY_LAYERS,
        heads=4,
        context_kv_heads=4,
        context_kv_groups=2,
        codebooks=data.codebooks,
        ecpm_buckets=2,
        short_length=HISTORY,
        long_length=0,
        item_buckets=32768,
        prefix_buckets=32768,
        user_buckets=1,
        path_codes=True,
        recency_bias=True,
        dropout=0.3,
    )
    return ModelConfig.parse({**shape.model_dump(), **VARIANTS[variant]})


class LazyARRow:
    """One trained row."""

    def __init__(self, data: Beauty, variant: str, seed: int, folder: Path, recipe: Recipe = RECIPE) -> None:
        self.data = data
        config = model_config(data, variant)
        self.spec = FeatureSpec.of(config)
        torch.manual_seed(seed)
        self.model = LazyAR(config)
        groups = parameter_groups(self.model, TrainingConfig(weight_decay=recipe.weight_decay))
        shape = config.model_dump(), data.fingerprint, BATCH_TARGETS
        self.fit = Fit(self.model, groups, recipe, folder, seed, *shape)
        self.training = data.training(HISTORY + 1)
        self.order = PrefixOrder(np.array([len(items) for items in self.training]), BATCH_TARGETS, seed)
        self.ranking = ItemRanking(data)

    def run(self, stop_at: float) -> bool:
        """Train; true when training is over."""
        return self.fit.run(self._batches, self._loss, self._judge, stop_at)

    def table(self, split: Split, *, new_only: bool = False) -> dict[str, float]:
        """Metrics of the best epoch over all users; `new_only` leaves out what the user had before."""
        return self._metrics(self.fit.best_model(), split, None, new_only, WIDTHS)

    def wide_beams(self) -> dict[str, float]:
        """Validation metrics of some users, at the row's beams and far wider ones."""
        users, model = self.data.validation_users[::WIDE_SHARE], self.fit.best_model()
        found: dict[str, float] = {}
        for name, widths in (("as_is", WIDTHS), ("wide", WIDE)):
            metrics = self._metrics(model, "validation", users, False, widths)
            found |= {f"{name}_{key}": value for key, value in metrics.items()}
        return found

    def flops_per_target(self) -> float:
        """Multiply-adds times two of a forward pass over one batch, a target of it; training takes three times that."""
        from torch.utils.flop_counter import FlopCounterMode

        batch = next(self._batches(0))
        with FlopCounterMode(display=False) as counter:
            self._loss(batch)
        return counter.get_total_flops() / float(batch.weight_BPM.sum())

    def _batches(self, epoch: int) -> Iterator[TrainBatch]:
        sids_NT = self.data.sids_NT
        for users in self.order.batches(epoch):
            yield prefix_batch([sids_NT[self.training[user]] for user in users], self.spec)

    def _loss(self, batch: TrainBatch) -> Tensor:
        return mean_over_targets(self.model(batch, mtp=False, ecpm=False), batch)

    def _judge(self, model: nn.Module) -> dict[str, float]:
        metrics = self._metrics(model, "validation", self.data.validation_users, False, WIDTHS)
        return {"ndcg@10": metrics["ndcg@10"], "recall@10": metrics["recall@10"]}

    def _metrics(
        self, model: nn.Module, split: Split, users: np.ndarray | None, new_only: bool, widths: tuple[int, ...]
    ) -> dict[str, float]:
        assert isinstance(model, LazyAR)
        histories, target_U = self.data.judged(split, users)
        ranked: list[list[int]] = [[] for _ in histories]
        for user, result in self.decoded(model, histories, widths, new_only=new_only):
            seen = set(histories[user].tolist()) if new_only else None
            ranked[user] = self.ranking.expand(result.sids_nT.tolist(), seen)
        return table_row(ranked, target_U)

    def decoded(
        self, model: LazyAR | StepModel, histories: Sequence[np.ndarray], widths: tuple[int, ...], *, new_only: bool
    ) -> Iterator[tuple[int, DecodeResult]]:
        """(place of a history, what the beam search finds after it), in any order; `new_only` bars the history."""
        trie, threads = self.ranking.trie(self.model), torch.get_num_threads()
        decoder = Decoder(model, trie, order_by="log_probability", ecpm_step=False, threads=threads)
        # Histories of similar length share a batch: less padding.
        order = np.argsort([min(len(history), HISTORY) for history in histories], kind="stable")
        for start in range(0, len(order), JUDGED_TOGETHER):
            users = order[start : start + JUDGED_TOGETHER].tolist()
            context = history_context([self.data.sids_NT[histories[user]] for user in users], self.spec)
            filters = [ItemFilter(deny=histories[user].tolist()) if new_only else None for user in users]
            yield from zip(users, decoder.decode(context, [widths] * len(users), filters), strict=True)


class ItemRanking:
    """From ranked SIDs to ranked items: those of one SID by training popularity."""

    def __init__(self, data: Beauty) -> None:
        self.data = data
        table = {
            "item_id": pa.array([str(item) for item in range(data.items)]),
            "sid": pa.array(data.sids_NT.tolist(), pa.list_(pa.int32())),
            "ecpm": pa.array(data.popularity_N.astype(float)),
        }
        self.index = SidIndex.from_table(pa.table(table))

    def trie(self, model: LazyAR) -> Trie:
        """All items."""
        return Trie.build(self.data.sids_NT, model.config.codebooks)

    def expand(self, sids: Sequence[Sequence[int]], seen: set[int] | None) -> list[int]:
        """The first items of the ranked SIDs, without those in `seen`."""
        items: list[int] = []
        for sid in sids:
            items += [int(item) for item in self.index.items(sid) if seen is None or int(item) not in seen]
            if len(items) >= max(CUTOFFS):
                break
        return items[: max(CUTOFFS)]
