"""Count baselines on Amazon Beauty: the product's own, on the training events of the benchmark.

Shapes: U users, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from adbeam.evaluation.baselines.counts import Scorer, best_items
from adbeam.evaluation.baselines.ease import Ease
from adbeam.evaluation.baselines.events import Past, TrainingEvents
from adbeam.evaluation.baselines.neighbours import directed_neighbours, sequential_rules
from adbeam.evaluation.baselines.user_knn import UserKnn
from adbeam.evaluation.config import EaseConfig, NeighbourBaselineConfig, UserKnnConfig
from benchmarks.beauty.data import CUTOFFS, Beauty, Split, table_row

NEIGHBOURS = NeighbourBaselineConfig()
WITHOUT_TEXT = NeighbourBaselineConfig(text_fields=())
USER_KNN = UserKnnConfig(own_share=0.0, neighbours=30)
"""Nobody has an item twice here: his own items tell who is near to him and nothing else."""
EASE = EaseConfig(items=20_000, penalty=100.0)
COUNTS = ("neighbours", "neighbours_without_text", "sequential_rules", "user_knn", "ease")
TOGETHER = 512


def catalogue_of(folder: Path) -> pa.Table:
    """title, brand and category of every item, in the order of their numbers."""
    items = pd.read_csv(folder / "items.csv.gz")
    parts = items.brand_categories.str.split("|")
    columns = {
        "title": items.title_words.fillna(""),
        "brand": parts.str[0],
        "category": parts.str[1:].str.join(" | "),
    }
    return pa.table({name: pa.array(values.tolist(), pa.string()) for name, values in columns.items()})


def events_of(data: Beauty) -> TrainingEvents:
    """All training items of all users, each a basket of its own."""
    parts = [items[:-2] for items in data.sequences]
    item_E = np.concatenate(parts)
    user_E = np.repeat(np.arange(len(parts)), [len(items) for items in parts])
    names = [[str(number) for number in range(count)] for count in (data.items, len(parts))]
    return TrainingEvents(user_E, item_E, np.arange(len(item_E)), names[0], names[1])


def scorer_of(name: str, data: Beauty, catalogue: pa.Table) -> Scorer:
    """A fitted baseline."""
    events = events_of(data)
    if name in ("neighbours", "neighbours_without_text"):
        return directed_neighbours(events, catalogue, NEIGHBOURS if name == "neighbours" else WITHOUT_TEXT)
    if name == "sequential_rules":
        return sequential_rules(events, NEIGHBOURS)
    return UserKnn(events, USER_KNN) if name == "user_knn" else Ease(events, EASE)


def ranked(
    scorer: Scorer, data: Beauty, histories: Sequence[np.ndarray], most: int, *, new_only: bool
) -> tuple[list[list[int]], list[list[float]]]:
    """(the first `most` items of each user, their scores); `new_only` leaves out what the user had before.

    Users are asked in the order of `data.sequences`: his training events are no neighbour of user u.
    """
    everything_N = np.ones(data.items, bool)
    items: list[list[int]] = []
    scores: list[list[float]] = []
    for start in range(0, len(histories), TOGETHER):
        part = histories[start : start + TOGETHER]
        score_BN = scorer.score([Past.of(history, start + place) for place, history in enumerate(part)])
        for row, history in enumerate(part):
            had = set(history.tolist()) if new_only else set()
            best = best_items(score_BN, row, everything_N, most + len(had))
            best = [item for item in best if item not in had][:most]
            span = slice(score_BN.indptr[row], score_BN.indptr[row + 1])
            score_of = dict(zip(score_BN.indices[span].tolist(), score_BN.data[span].tolist(), strict=True))
            items.append(best)
            scores.append([score_of[item] for item in best])
    return items, scores


def count_row(name: str, data: Beauty, catalogue: pa.Table, splits: Sequence[Split]) -> dict[str, dict[str, float]]:
    """{"validation": metrics, "validation_new_only": metrics, ...}: unfiltered and filtered, all users."""
    scorer = scorer_of(name, data, catalogue)
    row = {}
    for split in splits:
        histories, target_U = data.judged(split)
        for suffix, new_only in (("", False), ("_new_only", True)):
            row[split + suffix] = table_row(
                ranked(scorer, data, histories, max(CUTOFFS), new_only=new_only)[0], target_U
            )
    return row
