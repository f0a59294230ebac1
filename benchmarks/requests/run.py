"""Bid requests as exchanges send them, judged; and what reading them costs a replica.

    python -m benchmarks.requests [--parts bids traces http] [--mutations 200000] [--bundle BUNDLE --other CHECKOUT]

`request_cases_right` of `request_cases_all`: the specifications' examples and troubles of the field, each with its
right answer (tests/unit/serving/openrtb/cases). `bid_mutations` are made of them, seeded, as mutations.py says:
`bid_5xx` and `bid_422` of those answers, `bid_forbidden` bids where nothing may be bid, `bid_answer_equal` the share of
mutations of optional fields that are answered as if those were absent, `bid_needless_nobid` those with fewer bids.
`forbidden_traces` is told in traces.py. `request_http_ratio` is requests a second of processor time of `/v1/ads` and
`/v1/openrtb`, here over another checkout, the median of `--pairs`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.requests.answers import bid_figures
from benchmarks.requests.throughput import http_figures
from benchmarks.requests.traces import trace_figures
from benchmarks.rig.report import report

PARTS = ("bids", "traces", "http")


def main() -> None:
    """Write requests.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.requests", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--mutations", type=lambda text: int(float(text)), default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", type=Path, help="a bundle folder, for http; default: a small random one")
    parser.add_argument("--other", type=Path, help="another checkout, for http")
    parser.add_argument("--pairs", type=int, default=10, help="turns of each side of http")
    given = parser.parse_args()
    if "http" in given.parts and given.other is None:
        parser.error("http needs --other, a checkout to compare with; or leave it out: --parts bids traces")
    figures: dict[str, Any] = {}
    if "bids" in given.parts:
        figures |= bid_figures(given.mutations, given.seed)
    if "traces" in given.parts:
        figures |= trace_figures()
    if "http" in given.parts:
        figures |= http_figures(given.bundle and given.bundle.resolve(), given.other.resolve(), given.pairs)
    settings = {"mutations": given.mutations, "seed": given.seed, "pairs": given.pairs}
    report("requests", figures, {"settings": settings})
