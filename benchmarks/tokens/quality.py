"""Tables of tokenizers on real catalogues: GR4AD's Table 2 and GPR's Table 1, and what co-occurrence learning gains.

Every method quantizes the same vectors, with the same code space, at most 100 times the catalogue.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.imports.extension_points import QUANTIZERS
from adbeam.tokens.config import CooccurrenceConfig, QuantizerConfig, TokensConfig
from adbeam.tokens.cooccurrence.projection import learn_projection
from adbeam.tokens.embedders.behaviour import Interactions, read_interactions
from adbeam.tokens.metrics import path_similarity, sid_quality
from adbeam.tokens.quantizers.hashed_level import hash_business_fields
from adbeam.tokens.quantizers.rq_kmeans import RQKMeans
from adbeam.tokens.tokenizer import Tokenizer
from adbeam.workdir import SEQUENCES
from benchmarks.tokens.recall import next_item_hits

SEEDS = (0, 1, 2)
NEIGHBOURS = 10
SAMPLED_USERS = 3000
RECALL_METHODS = ("rqkmeans", "mg_mr", "mg_mr_without_item_id")
COOCCURRENCE = CooccurrenceConfig(
    enabled=True, hidden=1024, temperature=0.05, dropout=0.1, epochs=30, neighbours=20, swing_alpha=1.0
)


@dataclass(frozen=True)
class Catalogue:
    """A catalogue, its vectors, and the codebooks its methods get: falling sizes (MR) and equal ones of that space."""

    name: str
    items: pa.Table
    x_NE: np.ndarray
    falling: tuple[int, ...]
    equal: tuple[int, ...]
    business_fields: tuple[str, ...]


def complete_journey(prepared: Path) -> Catalogue:
    """The catalogue and training sequences that `adbeam prepare` wrote; attribute and behaviour vectors."""
    items = pq.read_table(prepared / "catalogue.parquet")
    tokenizer = Tokenizer.build(TokensConfig(), (2, 2), seed=0)
    tokenizer.embedder.fit(items, seed=0)
    x_NE = tokenizer.fit_vectors(items, read_interactions(prepared / SEQUENCES), seed=0)
    return Catalogue("completejourney", items, x_NE, (512, 128, 64), (161, 161, 162), ("item_id", "advertiser"))


@cache
def beauty(folder: Path, model_dir: Path | None) -> Catalogue:
    """Amazon Beauty: words of the title, brand and categories."""
    table = pd.read_csv(folder / "items.csv.gz")
    brand = table.brand_categories.str.split("|").str[0]
    words = table.title_words.fillna("") + ". " + table.brand_categories.str.replace("|", ", ")
    items = _items(table.item_id - 1, words, brand)
    return Catalogue("beauty", items, _embed(items, model_dir), (256, 64, 64), (102, 102, 101), ("item_id", "brand"))


def industrial(folder: Path, model_dir: Path | None) -> Catalogue:
    """Amazon Industrial: title and description."""
    table = pd.read_csv(folder / "items.csv.gz")
    items = _items(table.item_id, table.title + ". " + table.description.fillna(""), table.brand)
    return Catalogue("industrial", items, _embed(items, model_dir), (128, 64, 32), (64, 64, 64), ("item_id", "brand"))


def methods(catalogue: Catalogue) -> dict[str, tuple[tuple[int, ...], QuantizerConfig]]:
    """Codebooks and settings of every method of the table."""
    without_id = tuple(name for name in catalogue.business_fields if name != "item_id")
    plain = {"hashed_last_level": False, "balanced": False}
    return {
        "rqvae": (catalogue.equal, QuantizerConfig(method="rq_vae", **plain)),
        "rqkmeans": (catalogue.equal, QuantizerConfig(**plain)),
        "rqkmeans_plus": (catalogue.equal, QuantizerConfig(method="rq_kmeans_plus", **plain)),
        "balanced": (catalogue.equal, QuantizerConfig(hashed_last_level=False)),
        "mr": (catalogue.falling, QuantizerConfig(hashed_last_level=False)),
        "mg_mr": (catalogue.falling, QuantizerConfig(business_fields=catalogue.business_fields)),
        "mg_mr_without_item_id": (catalogue.falling, QuantizerConfig(business_fields=without_id)),
    }


def quality_rows(
    catalogue: Catalogue, sequences: Sequence[Sequence[int]] | None = None
) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
    """One row for each method and seed; with `sequences` also which users' next item was found (SAMPLED_USERS)."""
    users = None if sequences is None else sampled_users(len(sequences))
    fitted: dict[tuple[tuple[int, ...], int], RQKMeans] = {}
    for name, (codebooks, config) in methods(catalogue).items():
        for seed in SEEDS:
            quantizer = QUANTIZERS.load(config.method)(codebooks, config, seed=seed)
            _fit(quantizer, catalogue.x_NE, fitted)
            hashed = config.hashed_last_level
            business_N = hash_business_fields(catalogue.items, config.business_fields) if hashed else None
            sids_NT = quantizer.encode(catalogue.x_NE, business_N)
            quality = sid_quality(sids_NT, codebooks)
            levels = quality["levels"][: quantizer.vector_levels]
            hits_U = None
            if sequences is not None and users is not None and name in RECALL_METHODS:
                hits_U = next_item_hits(sids_NT, sequences, users, NEIGHBOURS)
            row = {
                "data": catalogue.name,
                "method": name,
                "seed": seed,
                "codebooks": list(codebooks),
                "space_over_items": quality["code_space"] / len(sids_NT),
                **{key: quality[key] for key in ("cpr", "col", "util", "item_collision")},
                "cur_l1": levels[0]["utilisation"],
                "least_level_utilisation": min(level["utilisation"] for level in levels),
                "largest_cell_over_mean": max(level["largest_cell_over_mean"] for level in levels),
                "pas": path_similarity(catalogue.x_NE, sids_NT),
                "next_item_recall10": None if hits_U is None else float(hits_U.mean()),
            }
            yield row, hits_U


def _fit(quantizer: RQKMeans, x_NE: np.ndarray, fitted: dict[tuple[tuple[int, ...], int], RQKMeans]) -> None:
    """Fit; the codebooks of MG are those of MR of the same sizes and seed without the last, and not fitted again."""
    key = (quantizer.codebooks, quantizer.seed)
    if quantizer.config.hashed_last_level and key in fitted:
        quantizer.levels = fitted[key].levels[: quantizer.vector_levels]
        return
    quantizer.fit(x_NE)
    if quantizer.config.method == "rq_kmeans" and quantizer.config.balanced:
        fitted[key] = quantizer


def summary(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """`col_<data>_<method>` and the other figures: means over the seeds."""
    figures: dict[str, float | None] = {}
    for data, method in dict.fromkeys((row["data"], row["method"]) for row in rows):
        mine = [row for row in rows if (row["data"], row["method"]) == (data, method)]
        for key in ("col", "cpr", "util", "item_collision", "cur_l1", "least_level_utilisation", "pas",
                    "next_item_recall10"):  # fmt: skip
            values = [row[key] for row in mine if row[key] is not None]
            if values:
                figures[f"{key}_{data}_{method}"] = float(np.mean(values))
        figures[f"largest_cell_over_mean_{data}_{method}"] = max(row["largest_cell_over_mean"] for row in mine)
    return figures


def recall_gain(hits: dict[str, list[np.ndarray]], data: str) -> dict[str, float]:
    """MG+MR over plain RQ-KMeans of the same code space, with a bootstrap interval over users."""
    ours_U, plain_U = (np.mean(hits[name], axis=0) for name in ("mg_mr", "rqkmeans"))
    low, high = bootstrap_gain(plain_U, ours_U)
    name = f"next_item_gain_{data}_mg_mr_over_rqkmeans"
    return {name: float(ours_U.mean() / plain_U.mean() - 1), f"{name}_low": low, f"{name}_high": high}


def sampled_users(users: int) -> np.ndarray:
    """The users whose next item is asked for: the same for every method."""
    return np.sort(np.random.default_rng(0).choice(users, min(users, SAMPLED_USERS), replace=False))


def read_sequences(path: Path) -> list[list[int]]:
    """Item numbers (from 0) of each user, oldest first; raises UserError where there is no such file."""
    if not path.is_file():
        raise UserError(f"there is no {path}", remedy="give the folder that holds sequences.txt.gz and items.csv.gz")
    with gzip.open(path, "rt") as lines:
        return [[int(item) - 1 for item in line.split()[1:]] for line in lines]


def cooccurrence(catalogue: Catalogue, sequences: Path) -> dict[str, float]:
    """Neighbour recall of the last item before and after the projection, learnt from training prefixes only.

    The target is each user's last item, the query the one before it; neither pair is among the training events.
    """
    bought = read_sequences(sequences)
    lengths = [len(items) - 2 for items in bought]
    user_R = np.repeat(np.arange(len(bought)), lengths)
    item_R = np.concatenate([items[:-2] for items in bought])
    items = catalogue.items.num_rows
    events = Interactions(user_R, user_R, item_R, [str(item) for item in range(items)])
    query_U, target_U = np.array([items[-2] for items in bought]), np.array([items[-1] for items in bought])
    before_U = _found(catalogue.x_NE, query_U, target_U)
    afters = []
    for seed in SEEDS:
        print(f"co-occurrence learning, seed {seed}", flush=True)
        projection = learn_projection(catalogue.x_NE, np.arange(items), events, COOCCURRENCE, seed=seed)
        afters.append(_found(projection.apply_to(catalogue.x_NE), query_U, target_U))
    after_U = np.mean(afters, axis=0)
    low, high = bootstrap_gain(before_U, after_U)
    return {
        "cooccurrence_recall10_before": float(before_U.mean()),
        "cooccurrence_recall10_after": float(after_U.mean()),
        "cooccurrence_gain": float(after_U.mean() / before_U.mean() - 1),
        "cooccurrence_gain_low": low,
        "cooccurrence_gain_high": high,
    }


def _found(z_NE: np.ndarray, query_U: np.ndarray, target_U: np.ndarray) -> np.ndarray:
    """float [U]: whether the target is among the nearest neighbours of the query."""
    found_U = np.zeros(len(query_U))
    for start in range(0, len(query_U), 2048):
        rows = slice(start, start + 2048)
        score_UN = z_NE[query_U[rows]] @ z_NE.T
        score_UN[np.arange(len(score_UN)), query_U[rows]] = -np.inf
        nearest_UK = np.argpartition(-score_UN, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        found_U[rows] = (nearest_UK == target_U[rows, None]).any(axis=1)
    return found_U


def bootstrap_gain(before_U: np.ndarray, after_U: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of mean(after) / mean(before) - 1, users drawn with replacement."""
    random = np.random.default_rng(0)
    gains = []
    for _ in range(draws):
        users = random.integers(0, len(before_U), len(before_U))
        gains.append(after_U[users].mean() / before_U[users].mean() - 1)
    return float(np.quantile(gains, 0.025)), float(np.quantile(gains, 0.975))


def _items(ids: pd.Series, text: pd.Series, brand: pd.Series) -> pa.Table:
    columns = {"item_id": ids.astype(str), "kind": "ad", "title": text, "brand": brand}
    return pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)


def _embed(items: pa.Table, model_dir: Path | None) -> np.ndarray:
    settings: dict[str, Any] = {"text_fields": ("title",), "behaviour_dimensions": 0}
    settings |= {"kind": "language", "model_dir": model_dir} if model_dir else {"dimensions": 128}
    tokenizer = Tokenizer.build(TokensConfig.parse({"embedder": settings}), (2, 2), seed=0)
    tokenizer.embedder.fit(items, seed=0)
    return tokenizer.vectors(items)
