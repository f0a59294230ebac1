"""The report of a load test: one line of figures for each span, and a picture of load, width and latency over time."""

from __future__ import annotations

import base64
import html
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adbeam.beams.ladder import Widths
from adbeam.loadtest.runner import LoadRun, Sent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ANSWERED = (200, 204)
SHED = (429, 503)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.4 sans-serif; margin: 2rem; }}
th, td {{ padding: 2px 10px; text-align: right; }}
img {{ max-width: 100%; }}
</style></head>
<body><h1>{title}</h1>
<img alt="Requests a second by outcome, mean beam width and latency over time" src="data:image/png;base64,{picture}">
<table>
{rows}
</table>
<p>Shares are of all requests sent; latencies are milliseconds from the planned time.</p>
</body></html>
"""


def summarize(
    run: LoadRun,
    since_ms: float = 0.0,
    until_ms: float = math.inf,
    quality: Mapping[Widths, float] | None = None,
    fallback_quality: float = 0.0,
) -> dict[str, float]:
    """Figures of the requests planned in [since_ms, until_ms); the denominator of every share is all of them.

    `value` is the mean quality of what was answered in time: that of the widths (`quality`, 1 where not given), or
    `fallback_quality` of a cached or popular answer; `model_value` counts those as nothing. Latencies are milliseconds
    from the planned time.
    """
    chosen = [entry for entry in run.requests if since_ms <= entry.planned_ms < until_ms]
    if not chosen:
        return {"requests": 0.0}
    in_time = [entry for entry in chosen if entry.status in ANSWERED and entry.latency_ms <= run.deadline_ms]
    by_model = [entry for entry in in_time if _by_model(entry)]
    latencies = [entry.latency_ms for entry in chosen if entry.status in ANSWERED]
    worth = [(quality or {}).get(entry.widths or (), 1.0) for entry in by_model]
    count = len(chosen)
    return {
        "requests": float(count),
        "in_deadline": len(in_time) / count,
        "model_in_deadline": len(by_model) / count,
        "degraded": sum(entry.degraded for entry in chosen) / count,
        "shed": sum(entry.status in SHED for entry in chosen) / count,
        "failed": sum(entry.status not in (*ANSWERED, *SHED) for entry in chosen) / count,
        "retried": sum(entry.retried for entry in chosen) / count,
        "value": (sum(worth) + fallback_quality * (len(in_time) - len(by_model))) / count,
        "model_value": sum(worth) / count,
        "mean_width": _mean(mean_width(entry) for entry in chosen if entry.widths),
        "p50_ms": _percentile(latencies, 50),
        "p95_ms": _percentile(latencies, 95),
        "p99_ms": _percentile(latencies, 99),
        "max_ms": max(latencies, default=math.nan),
        "queue_p50_ms": _percentile([e.queue_ms for e in by_model], 50),
        "decode_p50_ms": _percentile([e.decode_ms for e in by_model], 50),
        "client_lag_p99_ms": _percentile([e.sent_ms - e.planned_ms for e in chosen if e.sent_ms == e.sent_ms], 99),
        "client_cpu_ms_per_request": 1000.0 * run.client_cpu_seconds / max(len(run.requests), 1),
    }


def what_was_measured(requests: Sequence[Sent], deadline_ms: float) -> str:
    """In words: how many were answered in time, and how long the model's answers and decodes took, late ones too."""
    in_time = [entry for entry in requests if entry.status in ANSWERED and entry.latency_ms <= deadline_ms]
    full = sum(entry.source == "model" and entry.widths == entry.full_widths for entry in in_time)
    words = f"{len(in_time)} of {len(requests)} requests answered in {deadline_ms:.0f} ms, {full} by full width"
    decoded = [entry for entry in requests if entry.status == 200 and entry.source == "model"]
    if not decoded:
        return f"{words}; nothing was decoded"
    latencies, decodes = [entry.latency_ms for entry in decoded], [entry.decode_ms for entry in decoded]
    return (
        f"{words}; the model's answers took at least {min(latencies):.0f} ms, p50 {_percentile(latencies, 50):.0f} ms, "
        f"their decodes p50 {_percentile(decodes, 50):.0f} ms"
    )


def mean_width(entry: Sent) -> float:
    """Mean beams over the levels of the decode; nan when nothing was decoded."""
    return sum(entry.widths) / len(entry.widths) if entry.widths else math.nan


def rung_changes(requests: Sequence[Sent]) -> int:
    """Changes of the rung from one answered request to the next, in order of answer: one replica only."""
    decoded = sorted((e for e in requests if e.rung is not None and e.widths), key=lambda e: e.answered_ms)
    return sum(a.rung != b.rung for a, b in itertools.pairwise(decoded))


def reaction_ms(requests: Sequence[Sent], step_ms: float) -> float:
    """From the first request planned at or after `step_ms` to the start of the first narrower decode; nan if none, or
    if the last decode before was narrower already."""
    before = [e for e in requests if e.planned_ms < step_ms and e.widths]
    if before and before[-1].widths != before[-1].full_widths:
        return math.nan
    after = [entry for entry in requests if entry.planned_ms >= step_ms]
    narrow = [e.answered_ms - e.decode_ms for e in after if e.widths and e.full_widths and e.widths < e.full_widths]
    return min(narrow) - after[0].planned_ms if narrow else math.nan


def recovery_seconds(requests: Sequence[Sent], end_ms: float) -> float:
    """From `end_ms` to the first full-width answer after which 90 % of the next 20 are full width too; nan if none."""
    after = [entry for entry in requests if entry.planned_ms >= end_ms and entry.widths]
    full = [entry.widths == entry.full_widths for entry in after]
    for place, entry in enumerate(after):
        following = full[place : place + 20]
        if full[place] and sum(following) >= 0.9 * len(following):
            return (entry.planned_ms - end_ms) / 1000.0
    return math.nan


def write_report(run: LoadRun, figures: Mapping[str, Mapping[str, float]], path: str | Path, title: str) -> Path:
    """Write the picture (.png), or one page that holds it and the table of `figures` by span (.html)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        return draw(run, path, title)
    picture = BytesIO()
    draw(run, picture, title)
    names = list(dict.fromkeys(name for span in figures.values() for name in span))
    rows = [f"<tr><th></th>{''.join(f'<th>{html.escape(span)}</th>' for span in figures)}</tr>"]
    for name in names:
        cells = "".join(f"<td>{_shown(span.get(name, math.nan))}</td>" for span in figures.values())
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    encoded = base64.b64encode(picture.getvalue()).decode()
    path.write_text(PAGE.format(title=html.escape(title), rows="\n".join(rows), picture=encoded), encoding="utf-8")
    return path


def draw(run: LoadRun, path: str | Path | BytesIO, title: str = "", slice_ms: float = 500.0) -> Path:
    """Write a PNG of three panels over time: requests/s by outcome, mean beam width, latency; returns its path (of a
    buffer an empty one)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), layout="constrained")
    FigureCanvasAgg(figure)
    load, width, latency = figure.subplots(3, 1, sharex=True)
    slices = _slices(run, slice_ms)
    seconds = np.arange(len(slices)) * slice_ms / 1000.0
    _draw_load(load, run, slices, seconds, slice_ms)
    width.plot(seconds, [_mean(mean_width(e) for e in part if e.widths) for part in slices], color="tab:blue")
    width.set_ylabel("mean beam width")
    width.set_ylim(bottom=0)
    answered = [[e.latency_ms for e in part if e.status in ANSWERED] for part in slices]
    for percent, shade in ((50, "tab:green"), (99, "tab:orange")):
        values = [_percentile(part, percent) for part in answered]
        latency.plot(seconds, values, color=shade, label=f"p{percent}")
    latency.axhline(run.deadline_ms, color="black", linestyle="--", linewidth=0.8, label="deadline")
    latency.set(ylabel="latency (ms)", xlabel="seconds")
    latency.legend(loc="upper right")
    for panel in (load, width, latency):
        panel.grid(alpha=0.3)
        for mark_ms in run.marks.values():
            panel.axvline(mark_ms / 1000.0, color="grey", linestyle=":")
    figure.suptitle(title)
    figure.savefig(path, dpi=110, format="png")
    return Path() if isinstance(path, BytesIO) else Path(path)


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


def _draw_load(panel: Axes, run: LoadRun, slices: list[list[Sent]], seconds: np.ndarray, slice_ms: float) -> None:
    def per_second(kept: list[list[Sent]]) -> list[float]:
        return [1000.0 * len(part) / slice_ms for part in kept]

    in_time = [[e for e in part if e.status in ANSWERED and e.latency_ms <= run.deadline_ms] for part in slices]
    model = [[e for e in part if _by_model(e)] for part in in_time]
    panel.plot(seconds, per_second(slices), color="black", label="sent")
    panel.plot(seconds, per_second(in_time), color="tab:green", label="in deadline")
    panel.plot(seconds, per_second(model), color="tab:blue", label="by the model")
    panel.set_ylabel("requests/s")
    panel.legend(loc="upper right")


def _slices(run: LoadRun, slice_ms: float) -> list[list[Sent]]:
    end_ms = max((entry.planned_ms for entry in run.requests), default=0.0)
    slices: list[list[Sent]] = [[] for _ in range(int(end_ms // slice_ms) + 1)]
    for entry in run.requests:
        slices[int(entry.planned_ms // slice_ms)].append(entry)
    return slices


def _by_model(entry: Sent) -> bool:
    """Whether the model answered; an empty answer (204) is the model's too."""
    return entry.status == 204 or entry.source == "model"


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else math.nan


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else math.nan
