"""Targeting at a million ads: what the rules cost a search, and whether every answer obeys them.

    python -m benchmarks.told [--ads 1000000] [--repeats 40]

`mask_search_cost_b1` and `_b8` are the share that mask and search under it take over the same decode without rules, one
thread, runs of both in turn; no request repeats another's context, so that no mask is found ready.
"""

from __future__ import annotations

import argparse

from benchmarks.rig.report import report
from benchmarks.told.masks import mask_figures


def main() -> None:
    """Write told.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.told", description=__doc__.splitlines()[0])
    parser.add_argument("--ads", type=lambda text: int(float(text)), default=1_000_000)
    parser.add_argument("--repeats", type=int, default=40, help="decodes of each kind; their median counts")
    given = parser.parse_args()
    report("told", mask_figures(given.ads, given.repeats), vars(given))
