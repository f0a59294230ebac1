"""Amazon Beauty as the published tables read it: leave one out, semantic IDs from text and training events.

The last item of a user is the test target, the one before it validation, the rest training. Everything that learns
(co-occurrence, codebooks, popularity, models) sees training items only; a history may hold more when it is judged.

Shapes: N items, T SID levels, U users, H items of one history.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from adbeam import artifacts
from adbeam.evaluation.metrics import ndcg_at, recall_at
from adbeam.tokens.config import TokensConfig
from adbeam.tokens.embedders.behaviour import Interactions
from adbeam.tokens.metrics import sid_quality
from adbeam.tokens.tokenizer import Tokenizer
from benchmarks.tokens.quality import COOCCURRENCE, beauty, read_sequences

Split = Literal["validation", "test"]
HELD_OUT = {"validation": 2, "test": 1}
CUTOFFS = (5, 10)
CODEBOOKS = (512, 128, 64)
BEHAVIOUR_DIMENSIONS = 64
VALIDATION_USERS = 4000
"""Of these users the early stop asks, the same ones every time; the tables ask all."""


@dataclass(frozen=True)
class Beauty:
    """Users' items (from 0) in order, and the items' semantic IDs."""

    sequences: list[np.ndarray]
    sids_NT: np.ndarray
    codebooks: tuple[int, ...]
    tokens: dict[str, float]
    """Cpr, Col and other properties of the semantic IDs."""
    fingerprint: str
    """Of users and semantic IDs."""

    @property
    def items(self) -> int:
        """N."""
        return len(self.sids_NT)

    @cached_property
    def popularity_N(self) -> np.ndarray:
        """Training events of each item."""
        return np.bincount(np.concatenate([items[:-2] for items in self.sequences]), minlength=self.items)

    def training(self, longest: int) -> list[np.ndarray]:
        """The newest `longest` training items of each user."""
        return [items[:-2][-longest:] for items in self.sequences]

    def judged(self, split: Split, users: np.ndarray | None = None) -> tuple[list[np.ndarray], np.ndarray]:
        """(history, target) of every user, or of some."""
        place = HELD_OUT[split]
        chosen = self.sequences if users is None else [self.sequences[user] for user in users]
        return [items[:-place] for items in chosen], np.array([items[-place] for items in chosen])

    @property
    def validation_users(self) -> np.ndarray:
        """The users that the early stop asks."""
        count = min(VALIDATION_USERS, len(self.sequences))
        return np.sort(np.random.default_rng(0).choice(len(self.sequences), count, replace=False))


def read(
    folder: Path,
    model_dir: Path | None,
    keep: Path,
    users: int | None = None,
    *,
    proxy: bool = False,
    tokens: bool = True,
) -> Beauty:
    """The benchmark with its semantic IDs, which are made once and kept; `users` takes the first ones only.

    Without `model_dir` item texts are TF-IDF vectors instead of a language model's. `proxy` forgets each user's last
    item: training ends at [:-3], the stop asks [-3] and the test [-2], so that choices do not see the real test.
    Without `tokens` all items have one: for count baselines, which ask for none.
    """
    sequences = [np.array(items) for items in read_sequences(folder / "sequences.txt.gz")][:users]
    sequences = [items[:-1] for items in sequences] if proxy else sequences
    if not tokens:
        items = len(pd.read_csv(folder / "items.csv.gz", usecols=["item_id"]))
        return Beauty(sequences, np.zeros((items, 1), np.int32), (1,), {}, "no tokens")
    details = {
        "fingerprint": artifacts.fingerprint(
            [items.tolist() for items in sequences], CODEBOOKS, BEHAVIOUR_DIMENSIONS, COOCCURRENCE.model_dump(),
            model_dir is not None,
        )
    }  # fmt: skip
    target = keep / ("sids" if users is None else f"sids-{users}")
    if not artifacts.is_current(target, details):
        with artifacts.publish(target, details) as staging:
            sids_NT = _tokenize(folder, model_dir, sequences)
            np.save(staging / "sids.npy", sids_NT)
            quality = sid_quality(sids_NT, CODEBOOKS)
            artifacts.write_json(staging / "quality.json", {key: quality[key] for key in ("cpr", "col", "util")})
    quality = json.loads((target / "quality.json").read_text(encoding="utf-8"))
    return Beauty(sequences, np.load(target / "sids.npy"), CODEBOOKS, quality, details["fingerprint"])


def _tokenize(folder: Path, model_dir: Path | None, sequences: list[np.ndarray]) -> np.ndarray:
    """int32 [N, T]: text vectors projected by co-occurrence, behaviour beside them, MGMR RQ-KMeans."""
    catalogue = beauty(folder, model_dir)
    tokens = TokensConfig.parse(
        {
            "embedder": {
                "text_fields": ("title",),
                "behaviour_dimensions": BEHAVIOUR_DIMENSIONS,
                "batch_items": catalogue.items.num_rows,
            },
            "cooccurrence": COOCCURRENCE.model_dump(),
            "quantizer": {"business_fields": ("item_id",)},
        }
    )
    ids = catalogue.items["item_id"].to_pylist()
    tokenizer = Tokenizer.build(tokens, CODEBOOKS, seed=0)
    tokenizer.embedder = _Given(catalogue.x_NE)  # type: ignore[assignment]
    user_R = np.repeat(np.arange(len(sequences)), [len(items) - 2 for items in sequences])
    item_R = np.concatenate([items[:-2] for items in sequences])
    x_NE = tokenizer.fit(catalogue.items, Interactions(user_R, user_R, item_R, ids), seed=0)
    return tokenizer.encode_vectors(catalogue.items, x_NE).sids_NT


class _Given:
    """An embedder whose vectors are at hand."""

    def __init__(self, x_NE: np.ndarray) -> None:
        self.x_NE = x_NE

    def fit(self, sample: pa.Table, *, seed: int) -> None:
        """Nothing."""

    def embed(self, items: pa.Table) -> np.ndarray:
        """The vectors of the whole catalogue, in its order."""
        return self.x_NE


def table_row(ranked: list[list[int]], target_U: np.ndarray) -> dict[str, float]:
    """{"recall@10": ..., "ndcg@10": ...}, means over the users; one target each, so recall is the hit rate."""
    lists = [
        ([str(item) for item in items], {str(target): 1.0}) for items, target in zip(ranked, target_U, strict=True)
    ]
    row: dict[str, Any] = {}
    for k in CUTOFFS:
        row[f"recall@{k}"] = float(np.mean([recall_at(items, wanted, k) for items, wanted in lists]))
        row[f"ndcg@{k}"] = float(np.mean([ndcg_at(items, wanted, k) for items, wanted in lists]))
    return row


def popularity_row(data: Beauty, split: Split) -> dict[str, float]:
    """The items most popular before the targets, own history left out: a check of the protocol, since it learns
    nothing (0.0077 Recall@5, 0.0135 Recall@10 and 0.0061 NDCG@10 on the test split)."""
    histories, target_U = data.judged(split)
    order = np.argsort(-np.bincount(np.concatenate(histories), minlength=data.items), kind="stable")[:300].tolist()
    ranked = []
    for history in histories:
        seen = set(history.tolist())
        ranked.append([item for item in order if item not in seen][: max(CUTOFFS)])
    return table_row(ranked, target_U)
