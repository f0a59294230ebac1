"""Random catalogues, rules and requests, and what an answer may be by brute force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tests.support.bundles import random_catalogue, random_model_config, write_random_bundle

from adbeam.bundle import Bundle, load_bundle

NOW_MS = 1_777_000_000_000
CAMPAIGNS = ("spring", "summer", "autumn", None)
Row = Mapping[str, Any]


def random_bundle(folder: Path, items: int, seed: int, codebooks: tuple[int, ...] = (4, 4, 8)) -> Bundle:
    """A bundle whose ads have advertisers, campaigns and categories, or none, and share semantic IDs."""
    rng, config = np.random.default_rng(seed), random_model_config(codebooks=codebooks)
    table = random_catalogue(items, config, seed)
    for name in ("advertiser", "category"):
        values = [f"{name}-{rng.integers(0, 6)}" if rng.random() < 0.9 else None for _ in range(items)]
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    campaigns = [CAMPAIGNS[int(rng.integers(0, len(CAMPAIGNS)))] for _ in range(items)]
    table = table.append_column("campaign", pa.array(campaigns, pa.string()))
    return load_bundle(write_random_bundle(folder, config=config, seed=seed, catalogue=table))


def random_rules(rng: np.random.Generator) -> dict[str, int]:
    """Some of the four rules."""
    return {
        f"most_per_{name}": int(rng.integers(1, 5))
        for name in ("advertiser", "campaign", "category", "sid")
        if rng.random() < 0.5
    }


def live(bundle: Bundle) -> list[Row]:
    """The ads that may be shown."""
    return [row for row in bundle.catalogue.to_pylist() if row["kind"] == "ad" and row["status"] == "active"]


def is_legal(rows: Sequence[Row], rules: Mapping[str, int]) -> bool:
    """Whether no kind of ad stands in a list more often than its rule lets it."""
    for rule, most in rules.items():
        name = rule.removeprefix("most_per_")
        kinds = Counter(tuple(row[name]) if name == "sid" else row[name] for row in rows)
        kinds.pop(None, None)
        if max(kinds.values(), default=0) > most:
            return False
    return True


def could_be_longer(rows: Sequence[Row], allowed: Sequence[Row], rules: Mapping[str, int]) -> bool:
    """Whether an allowed ad could be added to a list."""
    shown = {row["item_id"] for row in rows}
    return any(is_legal([*rows, row], rules) for row in allowed if row["item_id"] not in shown)
