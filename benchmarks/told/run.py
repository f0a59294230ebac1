"""What telling and rules cost, and what they bring: targeting at a million ads, a replica with profiles, caps and
budgets, simulated markets and Complete Journey with and without features.

    python -m benchmarks.told [--parts masks http] [--ads 1000000] [--repeats 40] [--bundle BUNDLE --slices 60]
    python -m benchmarks.told --parts market [--markets 10]
    python -m benchmarks.told --parts journey [--seeds 0 1 2] [--steps 1000]
    python -m benchmarks.told --parts budgets [--bundle BUNDLE] [--seconds 600 --rate 20 --late 60]

`mask_search_cost_b1` and `_b8` are the share that mask and search under it take over the same decode without rules, one
thread, runs of both in turn; no request repeats another's context, so that no mask is found ready. Every answer is held
against the rules. `profile_http_ratio` is told in throughput.py; it needs a bundle. `features_revenue_gain` and the
`auc_gain`s are told in market.py, the figures of Complete Journey in journey.py; both keep what is finished under
--root and go on where they were. `budget_overspend` and `pause_visible_ms` are told in budgets.py: a quarter of an
hour, and minutes for late events; it needs redis-server.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.rig.report import report
from benchmarks.told.budgets import budget_figures
from benchmarks.told.masks import mask_figures
from benchmarks.told.throughput import http_figures

PARTS = ("masks", "http", "market", "journey", "budgets")
ROOT = Path("runs/benchmark-told")


def main() -> None:
    """Write told.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.told", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["masks", "http"])
    parser.add_argument("--ads", type=lambda text: int(float(text)), default=1_000_000)
    parser.add_argument("--repeats", type=int, default=40, help="decodes of each kind; their median counts")
    parser.add_argument("--bundle", type=Path, help="a bundle folder, for http and budgets")
    parser.add_argument("--slices", type=int, default=60, help="turns of each side of http")
    parser.add_argument("--markets", type=int, default=10, help="markets of market; each takes some minutes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of journey")
    parser.add_argument("--steps", type=int, default=1000, help="that journey trains each side and seed")
    parser.add_argument("--root", type=Path, default=ROOT, help="where market and journey keep what is finished")
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
    if "market" in given.parts:
        from benchmarks.told.market import Sizes, market_figures

        figures |= market_figures(given.markets, given.root, Sizes())
    if "journey" in given.parts:
        from benchmarks.told.journey import Journey, journey_figures

        figures |= journey_figures(Journey(given.root, given.steps), given.seeds)
    if "budgets" in given.parts:
        bundle = None if given.bundle is None else given.bundle.resolve()
        figures |= budget_figures(bundle, given.seconds, given.rate, given.late)
    settings = {
        name: getattr(given, name)
        for name in ("ads", "repeats", "slices", "markets", "seeds", "steps", "seconds", "rate", "late")
    }
    report("told", figures, {"simulated": ["market"], "parts": given.parts, "settings": settings})
