"""Results of the steps as Prometheus metrics.

Steps run for minutes and end; Prometheus would never see them. What they published in the work folder stays, so a small
server reads it at every scrape.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from adbeam import artifacts
from adbeam.bundle import CURRENT, resolve
from adbeam.errors import UserError
from adbeam.workdir import WorkDir

METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "adbeam_prepared_rows": ("Rows of the raw log by what became of them.", ("result",)),
    "adbeam_prepared_quarantined_rows": ("Quarantined rows.", ("reason",)),
    "adbeam_step_published_timestamp_seconds": ("When a step last published its folder.", ("step",)),
    "adbeam_tokens_level_utilisation": ("Share of its codes that a level uses.", ("level",)),
    "adbeam_tokens_collision_ratio": ("Share of occupied semantic IDs with several items.", ()),
    "adbeam_tokens_items_per_sid": ("Items over occupied semantic IDs.", ()),
    "adbeam_bundle_items": ("Items of the bundle in force.", ("kind",)),
    "adbeam_bundles": ("Bundles that are kept.", ()),
    "adbeam_evaluation": ("Means of the newest evaluation of the model.", ("split", "metric")),
    "adbeam_reward": ("Newest reward model on the test split: AUC, ECE, predicted over observed.", ("metric",)),
    "adbeam_online_rounds": ("Rounds of the online loop by verdict.", ("verdict",)),
    "adbeam_online_events": ("Feedback of the online loop, by the account it is in.", ("state",)),
    "adbeam_online_gate": ("What the newest gate measured: new model minus old, with lower bounds.", ("figure",)),
}


@dataclass(frozen=True)
class Sample:
    """One value of one metric; `labels` in the order of METRICS."""

    name: str
    labels: tuple[str, ...]
    value: float


def read_samples(work_dir: Path) -> Iterator[Sample]:
    """What the published folders of `work_dir` say now; a folder that is missing or being replaced says nothing."""
    for reader in (_steps, _prepared, _tokens, _bundles, _evaluation, _reward, _online):
        try:
            yield from list(reader(WorkDir(work_dir)))
        except (OSError, UserError, json.JSONDecodeError, KeyError, sqlite3.Error):
            continue


class StepCollector:
    """Reads the work folder at every scrape."""

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One family a metric."""
        families = {name: GaugeMetricFamily(name, text, labels=keys) for name, (text, keys) in METRICS.items()}
        for sample in read_samples(self._work_dir):
            families[sample.name].add_metric(sample.labels, sample.value)
        return families.values()


def serve(work_dir: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server of `/metrics`; the caller runs `serve_forever`. Raises UserError when the port is taken."""
    registry = CollectorRegistry()
    registry.register(StepCollector(work_dir))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.split("?")[0] == "/metrics"
            body = generate_latest(registry) if found else b"metrics are at /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST if found else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """A line a scrape would bury everything else."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise UserError(f"cannot listen: {error.strerror}", field="--port", value=port, remedy="name another") from None


def _steps(work_dir: WorkDir) -> Iterator[Sample]:
    folders = (work_dir.prepared, work_dir.tokens, work_dir.training)
    manifests = {folder.name: folder / artifacts.MANIFEST for folder in folders}
    manifests |= {
        str(path.parent.relative_to(work_dir.root)): path
        for path in work_dir.evaluation.glob(f"*/{artifacts.MANIFEST}")
    }
    manifests[work_dir.bundles.name] = work_dir.bundles / CURRENT
    for step, path in manifests.items():
        if path.is_file():
            yield Sample("adbeam_step_published_timestamp_seconds", (step,), path.stat().st_mtime)


def _prepared(work_dir: WorkDir) -> Iterator[Sample]:
    account = _json(work_dir.prepared / "account.json")
    for result in ("kept", "quarantined", "duplicates"):
        yield Sample("adbeam_prepared_rows", (result,), account[result])
    for reason, count in account["reasons"].items():
        yield Sample("adbeam_prepared_quarantined_rows", (reason,), count)


def _tokens(work_dir: WorkDir) -> Iterator[Sample]:
    quality = _json(work_dir.tokens / "report.json")["quality"]
    yield Sample("adbeam_tokens_collision_ratio", (), quality["col"])
    yield Sample("adbeam_tokens_items_per_sid", (), quality["cpr"])
    for level, entry in enumerate(quality["levels"]):
        yield Sample("adbeam_tokens_level_utilisation", (str(level),), entry["utilisation"])


def _bundles(work_dir: WorkDir) -> Iterator[Sample]:
    root = work_dir.bundles
    current = resolve(root)
    kinds = pq.read_table(current / "catalogue.parquet", columns=["kind"]).column("kind").value_counts()
    for entry in kinds.to_pylist():
        yield Sample("adbeam_bundle_items", (str(entry["values"]),), entry["counts"])
    yield Sample("adbeam_bundles", (), len(list(root.glob(f"*/{artifacts.MANIFEST}"))))


def _evaluation(work_dir: WorkDir) -> Iterator[Sample]:
    for path in sorted(work_dir.evaluation.glob("*/table.json")):
        for name, row in _json(path).items():
            question, _, ranking = name.partition("/")
            if ranking != "model":
                continue
            for metric, value in row.items():
                yield Sample("adbeam_evaluation", (path.parent.name, f"{question} {metric}"), value)


def _reward(work_dir: WorkDir) -> Iterator[Sample]:
    for metric, value in artifacts.read_manifest(work_dir.reward, verify=False)["metrics"].items():
        yield Sample("adbeam_reward", (metric,), value)


def _online(work_dir: WorkDir) -> Iterator[Sample]:
    folder = work_dir.online
    ledger = work_dir.ledger
    if not ledger.is_file():
        return
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=5)) as db:
        for verdict, count in db.execute("SELECT coalesce(verdict, 'open'), count(*) FROM rounds GROUP BY 1"):
            yield Sample("adbeam_online_rounds", (verdict,), count)
    rounds = folder / "rounds"
    for path in sorted(rounds.glob("*/join/counts.json"))[-1:]:
        for state in ("pending", "used", "expired", "orphan"):
            yield Sample("adbeam_online_events", (state,), _json(path)[state])
    for path in sorted(rounds.glob("*/gate/verdict.json"))[-1:]:
        for figure, value in _json(path).items():
            if isinstance(value, float):
                yield Sample("adbeam_online_gate", (figure,), value)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
