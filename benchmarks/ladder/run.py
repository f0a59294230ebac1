"""The paper's ladder in simulated revenue over a cascade, what an RSPO step costs, and the online loop under drift.

    python -m benchmarks.ladder [--seeds 0 1 2 3 4] [--steps 1000] [--more-steps 400] [--online-rounds 20]
    python -m benchmarks.ladder --ceilings [--seeds 0 1 2 3 4]

Every figure is **simulated**: the market of adbeam.market. Each row is trained anew for every seed (a market of its
own) and judged by the expected revenue of its lists on the day after the log; `revenue_<row>` is the mean lift over the
cascade (two-tower recall, DLRM ranking), with a 95 % Student interval over the seeds; `rspo_over_<row>` compares seed
by seed. Finished models are kept in runs/benchmark-ladder and not trained again. Interrupted, it goes on where it was;
seeds can be done beside each other with `--seeds 0 1 --online-rounds 0` before the call that reads all. With
`--ceilings` no row is judged: ceilings.py says what is, and writes ladder_ceilings.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from adbeam import artifacts
from benchmarks.ladder.market import MORE_STEPS, STEPS, Bench, folder_of_commit
from benchmarks.ladder.online import play_online
from benchmarks.ladder.rows import ROWS, Row, named
from benchmarks.ladder.step import simulation_speed, step_cost
from benchmarks.rig.report import report

ROOT = Path("runs/benchmark-ladder")
RSPO = named("vsl_rspo").name


def main() -> None:
    """Write ladder.json, ladder.png and, where rounds were played, ladder-online.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--more-steps", type=int, default=MORE_STEPS)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--online-rounds", type=int, default=20)
    parser.add_argument("--online-requests", type=int, default=3000, help="a day; the market's users ask as often")
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--rows", nargs="*", help="only these rows, for a look")
    parser.add_argument("--ceilings", action="store_true", help="what any order or recall could earn, and nothing else")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [row for row in ROWS if row.shown and (not asked.rows or row.name in asked.rows)]
    root = folder_of_commit(asked.root)
    seeds = [Bench(root / f"seed-{seed}", seed, asked.steps, asked.more_steps, asked.requests) for seed in asked.seeds]
    if asked.ceilings:
        return _report_ceilings(seeds)
    results = [judged(bench, chosen) for bench in seeds]
    figures: dict[str, float] = {}
    for row in chosen:
        lifts = np.array([result[row.name]["revenue"] / result["cascade"]["revenue"] - 1 for result in results])
        figures |= with_interval(f"revenue_{row.name}", lifts)
        figures[f"requests_per_second_{row.name}"] = float(np.median([r[row.name]["per_second"] for r in results]))
    figures |= rspo_gains(results, [row.name for row in chosen])
    for name in ("random", "best"):
        figures[f"revenue_{name}"] = float(np.mean([r[name]["revenue"] / r["cascade"]["revenue"] - 1 for r in results]))
    figures |= {**step_cost(seeds[0]), **simulation_speed(seeds[0])}
    online = play_online(root / "online", asked.online_rounds, asked.online_requests) if asked.online_rounds else {}
    figures |= {name: value for name, value in online.items() if isinstance(value, int | float)}
    report(
        "ladder",
        figures,
        {
            "simulated": True,
            "seeds": asked.seeds,
            "market": asdict(seeds[0])["market"].model_dump(),
            "revenue_per_request": results,
            "online": online.get("rounds_table"),
        },
    )
    _plot(figures, [row.name for row in chosen])
    if online:
        _plot_online(online["rounds_table"])


def _report_ceilings(seeds: Sequence[Bench]) -> None:
    from benchmarks.ladder.ceilings import ceilings, summed_up

    found = [ceilings(bench) for bench in seeds]
    settings = {"simulated": True, "market": seeds[0].market.model_dump(), "requests": seeds[0].requests}
    report("ladder_ceilings", summed_up(found) | {"markets": found}, settings)


def judged(bench: Bench, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Revenue and speed of every row on one market; what was judged before is read back."""
    path = bench.root / f"judged-{bench.requests}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    world = bench.prepare()
    if "cascade" not in known:
        known["cascade"] = {"revenue": bench.judge_cascade(world)}
        known |= {name: {"revenue": value} for name, value in bench.bounds(world).items()}
    for row in rows:
        found = known.get(row.name)
        if found is None or found["weights"] != bench.weights(row).stem:
            found = known[row.name] = bench.judge(row, world)
            artifacts.write_json(path, known)
            lift = found["by_order"][row.order_by] / known["cascade"]["revenue"] - 1
            print(f"seed {bench.seed} {row.name}: {lift:+.2%}", flush=True)
        found["revenue"] = found["by_order"][row.order_by]
    return dict(known)


def rspo_gains(results: list[dict[str, dict[str, Any]]], rows: list[str]) -> dict[str, float]:
    """`rspo_over_<row>` with its interval: the difference of both lifts, seed by seed, since rows share a market."""
    figures: dict[str, float] = {}
    for row in rows if RSPO in rows else []:
        if row != RSPO:
            lifts = [(r[RSPO]["revenue"] - r[row]["revenue"]) / r["cascade"]["revenue"] for r in results]
            figures |= with_interval(f"rspo_over_{row}", np.array(lifts))
    return figures


def with_interval(name: str, values: np.ndarray) -> dict[str, float]:
    """The mean by `name`, its bounds by NAME_lo and NAME_hi."""
    return dict(zip((name, f"{name}_lo", f"{name}_hi"), interval(values), strict=True))


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """(mean, lower, upper) by Student's t; the bounds are the mean itself for a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, mean, mean
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def _plot(figures: dict[str, float], rows: list[str]) -> None:
    mean = np.array([100 * figures[f"revenue_{row}"] for row in rows])
    low = np.array([100 * figures[f"revenue_{row}_lo"] for row in rows])
    high = np.array([100 * figures[f"revenue_{row}_hi"] for row in rows])
    with _picture("ladder.png", 0.4 * len(rows) + 1.2) as axes:
        axes.errorbar(mean, np.arange(len(rows)), xerr=[mean - low, high - mean], fmt="o", capsize=3)
        axes.set_yticks(np.arange(len(rows)), rows)
        axes.invert_yaxis()
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_xlabel("simulated revenue over the cascade, % (95 % interval over seeds)")
        axes.grid(axis="x", alpha=0.3)


def _plot_online(table: list[dict[str, Any]]) -> None:
    days = [line["day"] for line in table]
    with _picture("ladder-online.png", 3.2) as axes:
        for name, label in (("revenue", "online loop"), ("frozen", "frozen model")):
            axes.plot(days, [line[name] for line in table], label=label)
        for line in table:
            if line["verdict"] == "published":
                axes.axvline(line["day"] + 0.5, color="grey", linewidth=0.8, linestyle=":")
        axes.set_xlabel("day of the simulated market (dotted: a round is published)")
        axes.set_ylabel("expected revenue a request")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(bottom=0)
        axes.legend()
        axes.grid(alpha=0.3)


@contextmanager
def _picture(path: str, height: float) -> Iterator[Any]:
    """Axes of a picture that is written when they are filled."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height))
    FigureCanvasAgg(figure)
    yield figure.subplots()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
