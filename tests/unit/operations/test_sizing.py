"""The sizing page shows what the calculator computes, and the calculator moves the right way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adbeam.decoding.trie.trie import Trie
from adbeam.operations.sizing import Load, Measured, Targets, machines, table

PAGE = Path(__file__).parents[3] / "docs" / "sizing.md"


def test_the_page_shows_the_calculators_figures() -> None:
    assert table(machines(Load(), Measured(), Targets())) in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "figure", "factor"),
    [
        ({"requests_per_second": 40_000}, "replicas_at_peak", 2.0),
        ({"spike": 6.0}, "spike_carried_by_beams", 0.5),
        ({"users": 200e6}, "history_store_gib", 0.5),
        ({"events_per_day": 2e9}, "log_disk_gib", 2.0),
    ],
)
def test_figures_follow_the_load(change: dict[str, float], figure: str, factor: float) -> None:
    before = machines(Load(), Measured(), Targets())[figure]
    after = machines(Load(**change), Measured(), Targets())[figure]
    assert after / before == pytest.approx(factor, rel=0.02)


def test_the_tries_bytes_are_those_of_the_trie() -> None:
    rng = np.random.default_rng(0)
    codebooks, ads = (16384, 4096, 1024), 200_000
    sids_NT = np.stack([rng.integers(0, size, ads) for size in codebooks], axis=1)
    assert Trie.build(sids_NT, codebooks).bytes / ads == pytest.approx(Measured().trie_bytes_per_ad, rel=0.15)
