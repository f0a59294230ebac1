"""Sweeps over settings: ordinary trainings beside each other, judged by recall on validation requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adbeam.sweep.search import SweepConfig


def sweep(config: SweepConfig) -> list[dict[str, Any]]:
    """Run the trials; returns a row for each, best first, and writes the table and the best configuration."""
    from adbeam.sweep.search import sweep as run

    return run(config)
