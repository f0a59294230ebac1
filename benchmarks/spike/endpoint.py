"""A live endpoint for the spike benchmarks: replicas of a trained bundle, their capacity, users and policies."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.ladder import Widths, quality_by_widths
from adbeam.bundle import load_bundle, resolve
from adbeam.loadtest.capacity import measure_capacity, put_in_force
from adbeam.loadtest.report import summarize
from adbeam.loadtest.runner import LoadRun, LoadTarget, bodies, run_load
from adbeam.serving.client import call
from adbeam.serving.deploy.local import Endpoint, start
from adbeam.workdir import WorkDir

ROOT = Path(__file__).parents[2]
POLICIES = ("deadline", "static", "tabs", "tabs_floor")
DEADLINE_MS = 150.0
SETTLE_SECONDS = 8.0


@dataclass
class Spike:
    """A running endpoint, and what requests to it look like."""

    endpoint: Endpoint
    users: list[str]
    now_ms: int | None
    quality: dict[Widths, float]
    fallback_quality: float
    capacity: float = 0.0

    @property
    def target(self) -> LoadTarget:
        """Where the load goes."""
        return LoadTarget(url=f"{self.endpoint.url}/v1/ads", deadline_ms=DEADLINE_MS, timestamp=self.now_ms)

    def floor_widths(self) -> Widths:
        """The narrowest rung in force."""
        return tuple(call(self.endpoint.url, "GET", "/v1/status")[1]["ladder"][-1])

    def use(self, policy: str) -> None:
        """Put a shipped policy in force and let the replica come to rest; NAME_early is NAME with the fallback in
        time."""
        name = policy.removesuffix("_early")
        settings = BeamPolicyConfig.load(ROOT / "serving" / "policies" / f"{name}.yaml")
        if name != policy:
            settings = settings.model_copy(update={"answer_late_early": True})
        put_in_force(self.endpoint, settings.model_dump(mode="json"))
        time.sleep(SETTLE_SECONDS)

    def send(self, planned_ms: np.ndarray, marks: Mapping[str, float] | None = None, seed: int = 0) -> LoadRun:
        """Send requests of users of the log."""
        return run_load(planned_ms, bodies(self.users, self.target, len(planned_ms), seed), self.target, marks)

    def figures(self, run: LoadRun, since_ms: float = 0.0, until_ms: float = float("inf")) -> dict[str, float]:
        """Figures of a span, answers weighed by the measured quality of their widths relative to full width."""
        return summarize(run, since_ms, until_ms, self.quality, self.fallback_quality)

    def measure_capacity(self) -> float:
        """Requests a second at full width inside the deadline, HTTP and the load generator on the same cores."""
        self.capacity = measure_capacity(self.endpoint, self.users, self.target)
        return self.capacity


@contextmanager
def serving(work_dir: Path, port: int, replicas: int = 1, widths: Widths | None = None) -> Iterator[Spike]:
    """So many replicas of the bundle of a `work_dir` behind HAProxy, with the result cache off; `widths` are the full
    ones, by default the bundle's."""
    layout = WorkDir(work_dir)
    settings = {
        "bundle": str(layout.bundles), "store.path": str(layout.serving / "spike.sqlite"),
        "store.prepared": str(layout.prepared), "event_log.folder": None, "cache.enabled": False,
        "watch_seconds": 0.5, "deadline.max_ms": 20_000, "engine.widths": None if widths is None else list(widths),
    }  # fmt: skip
    quality = quality_by_widths(load_bundle(resolve(layout.bundles)).ladder_quality) or {}
    full = max(quality, key=sum, default=())
    relative = {widths: min(1.0, value / max(quality[full], 1e-12)) for widths, value in quality.items()}
    users, now_ms = users_of(work_dir)
    with tempfile.TemporaryDirectory() as folder:
        endpoint = start(_with_replicas(replicas, Path(folder) / "spike.yaml"), settings, port)
        try:
            yield Spike(endpoint, users, now_ms, relative, popular_quality(work_dir))
        finally:
            endpoint.stop()


def _with_replicas(replicas: int, path: Path) -> Path:
    """serving/ads.yaml with a fixed number of replicas, written to `path`."""
    config = yaml.safe_load((ROOT / "serving" / "ads.yaml").read_text(encoding="utf-8"))
    scaling = config["applications"][0]["deployments"][0]["autoscaling_config"]
    scaling["min_replicas"] = scaling["max_replicas"] = replicas
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def users_of(work_dir: Path, most: int = 2000) -> tuple[list[str], int]:
    """Users with a request in the test split, each as often as they ask there, and the moment after the last."""
    from adbeam.evaluation.evaluate import judged_requests
    from adbeam.logs.prepared import PreparedLog

    requests = judged_requests(PreparedLog.open(WorkDir(work_dir).prepared, verify=False), "test", None)
    return [request.sequence.user_id for request in requests][:most], max(request.now_ms for request in requests) + 1


def popular_quality(work_dir: Path) -> float:
    """Recall@10 of popular ads relative to the model's, as `adbeam evaluate` found it on the test split."""
    table = json.loads((WorkDir(work_dir).evaluation / "test" / "table.json").read_text(encoding="utf-8"))
    return float(table["all/popularity"]["recall@10"] / table["all/model"]["recall@10"])


def printed(title: str, rows: Mapping[str, Mapping[str, float]], names: tuple[str, ...]) -> None:
    """Print a table of figures, one row a policy."""
    print(f"{title}\n  {'':12s}" + "".join(f"{name:>19s}" for name in names))
    for row, figures in rows.items():
        print(f"  {row:12s}" + "".join(f"{figures.get(name, float('nan')):19.4g}" for name in names), flush=True)


def plain(value: Any) -> Any:
    """`value` as JSON keeps it: what goes beside the figures."""
    return json.loads(json.dumps(value, default=str))
