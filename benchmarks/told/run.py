"""What telling and rules cost: targeting at a million ads, and a replica with profiles, caps and budgets.

    python -m benchmarks.told [--parts masks http budgets] [--ads 1000000] [--repeats 40] [--bundle BUNDLE --slices 60]
        [--seconds 600 --rate 20 --late 60]

`mask_search_cost_b1` and `_b8` are the share that mask and search under it take over the same decode without rules, one
thread, runs of both in turn; no request repeats another's context, so that no mask is found ready. Every answer is held
against the rules. `profile_http_ratio` is told in throughput.py; it needs a bundle. `budget_overspend` and
`pause_visible_ms` are told in budgets.py: a quarter of an hour, and minutes for late events; it needs redis-server.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.rig.report import report
from benchmarks.told.budgets import budget_figures
from benchmarks.told.masks import mask_figures
from benchmarks.told.throughput import http_figures

PARTS = ("masks", "http", "budgets")


def main() -> None:
    """Write told.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.told", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["masks", "http"])
    parser.add_argument("--ads", type=lambda text: int(float(text)), default=1_000_000)
    parser.add_argument("--repeats", type=int, default=40, help="decodes of each kind; their median counts")
    parser.add_argument("--bundle", type=Path, help="a bundle folder, for http and budgets")
    parser.add_argument("--slices", type=int, default=60, help="turns of each side of http")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long the budgets last, for budgets")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second, for budgets")
    parser.add_argument("--late", type=float, default=60.0, help="seconds that events are late, for budgets; 0: none")
    given = parser.parse_args()
    if "http" in given.parts and given.bundle is None:
        parser.error("http needs --bundle, the folder of one bundle; or leave it out: --parts masks")
    figures: dict[str, Any] = {}
    if "masks" in given.parts:
        figures |= mask_figures(given.ads, given.repeats)
    if "http" in given.parts:
        figures |= http_figures(given.bundle.resolve(), given.slices)
    if "budgets" in given.parts:
        bundle = None if given.bundle is None else given.bundle.resolve()
        figures |= budget_figures(bundle, given.seconds, given.rate, given.late)
    lists = {name: figures.pop(name) for name in [*figures] if isinstance(figures[name], list)}
    report(
        "told",
        figures,
        {
            "settings": {
                "ads": given.ads,
                "repeats": given.repeats,
                "slices": given.slices,
                "seconds": given.seconds,
                "rate": given.rate,
                "late": given.late,
            },
            **lists,
        },
    )
