"""The histogram of items per SID."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MAX_BARS = 12


def draw_items_per_sid(counts: Mapping[int, int], path: Path) -> None:
    """Write a PNG: how many SIDs hold one item, two, three and so on."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    bars = {size: counts.get(size, 0) for size in range(1, MAX_BARS)}
    bars[MAX_BARS] = sum(number for size, number in counts.items() if size >= MAX_BARS)
    labels = [str(size) for size in range(1, MAX_BARS)] + [f"{MAX_BARS}+"]
    drawn = axes.bar(labels, list(bars.values()), color="#3b6ea5")
    axes.bar_label(drawn, labels=[f"{number:,}" if number else "" for number in bars.values()], fontsize=8)
    axes.set(yscale="symlog", xlabel="items on one SID", ylabel="SIDs")
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
