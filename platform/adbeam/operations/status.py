"""`adbeam status`: what runs and what was last made. Applications and replicas, rung, bundle, last training."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adbeam import artifacts
from adbeam.bundle import CURRENT, resolve
from adbeam.errors import UserError
from adbeam.workdir import WorkDir


@dataclass(frozen=True)
class DeploymentStatus:
    """One deployment and how many of its replicas are in which state."""

    name: str
    state: str
    replicas: dict[str, int]
    wanted: int | None


@dataclass(frozen=True)
class ApplicationStatus:
    """One Serve application."""

    name: str
    state: str
    message: str
    deployments: list[DeploymentStatus]


@dataclass(frozen=True)
class StepStatus:
    """One step's published folder. `published` is ISO 8601, UTC; `metrics` what its manifest says."""

    name: str
    published: str
    metrics: dict[str, Any]


@dataclass
class Status:
    """Everything `adbeam status` shows. What could not be asked is in `unreachable`."""

    applications: list[ApplicationStatus] = field(default_factory=list)
    rungs: dict[str, int] = field(default_factory=dict)
    bundle: str | None = None
    bundles: list[str] = field(default_factory=list)
    steps: list[StepStatus] = field(default_factory=list)
    removed_unread: dict[str, int] = field(default_factory=dict)
    """Rows of each log that were removed before the online loop read them."""
    unreachable: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def read_status(*, work_dir: Path, address: str | None, metrics_urls: list[str] | None = None) -> Status:
    """Ask the cluster's dashboard, the metrics endpoints and the work folder; each may be missing."""
    status = Status(bundle=_current(work_dir), bundles=_bundles(work_dir), steps=list(_steps(work_dir)))
    status.removed_unread = _removed_unread(work_dir)
    try:
        status.applications = read_applications(address)
    except UserError as error:
        status.unreachable.append(str(error))
    for url in metrics_urls or []:
        try:
            status.rungs |= read_rungs(url)
        except UserError as error:
            status.unreachable.append(str(error))
    return status


def read_applications(address: str | None) -> list[ApplicationStatus]:
    """The Serve applications of the cluster whose dashboard is at `address`; raises UserError when not reached."""
    from adbeam.jobs.submit import connect

    client = connect(address)
    # Private, but it carries the address, headers and token; the client has no public call for what Serve runs.
    answer = client._do_request("GET", "/api/serve/applications/")
    if answer.status_code != 200:
        raise UserError(f"the dashboard answered {answer.status_code}", field="--address", value=address)
    return parse_applications(answer.json())


def parse_applications(details: Mapping[str, Any]) -> list[ApplicationStatus]:
    """From the body of Ray's GET /api/serve/applications/."""
    return [
        ApplicationStatus(
            name,
            entry["status"],
            entry.get("message") or "",
            [_deployment(one) for one in entry["deployments"].values()],
        )
        for name, entry in details["applications"].items()
    ]


def read_rungs(url: str) -> dict[str, int]:
    """{replica: rung} from a Ray metrics endpoint; raises UserError when it does not answer."""
    import requests

    try:
        answer = requests.get(url, timeout=5)
        answer.raise_for_status()
    except requests.exceptions.RequestException:
        raise UserError("no metrics there", field="--metrics", value=url, remedy="http://NODE:8080/metrics") from None
    found = re.findall(r'^ray_adbeam_rung\{[^}]*replica="([^"]+)"[^}]*\} ([0-9.e+]+)$', answer.text, re.MULTILINE)
    return {replica: int(float(rung)) for replica, rung in found}


def lines(status: Status) -> list[str]:
    """The status for a terminal."""
    shown = []
    for application in status.applications:
        # A failure's message is a stack trace; its last line says what is wrong.
        reason = (application.message.strip().splitlines() or [""])[-1]
        shown.append(f"application {application.name}: {application.state} {reason}".rstrip())
        for deployment in application.deployments:
            counts = ", ".join(f"{count} {state.lower()}" for state, count in deployment.replicas.items()) or "none"
            wanted = f" of {deployment.wanted}" if deployment.wanted is not None else ""
            shown.append(f"  {deployment.name}: {deployment.state}; replicas: {counts}{wanted}")
    shown += [f"replica {replica}: rung {rung}" for replica, rung in sorted(status.rungs.items())]
    shown.append(f"bundle in force: {status.bundle or 'none'} ({len(status.bundles)} kept)")
    for step in status.steps:
        metrics = ", ".join(f"{name} {value}" for name, value in step.metrics.items())
        shown.append(f"{step.name}: {step.published}" + (f"; {metrics}" if metrics else ""))
    shown += [
        f"{log} log: {rows} rows were removed unread (max_bytes)" for log, rows in status.removed_unread.items() if rows
    ]
    return shown + [f"not asked: {problem}" for problem in status.unreachable]


def _deployment(entry: Mapping[str, Any]) -> DeploymentStatus:
    counts: dict[str, int] = {}
    for replica in entry.get("replicas") or ():
        counts[replica["state"]] = counts.get(replica["state"], 0) + 1
    return DeploymentStatus(entry["name"], entry["status"], counts, entry.get("target_num_replicas"))


def _current(work_dir: Path) -> str | None:
    root = WorkDir(work_dir).bundles
    try:
        return resolve(root).name if (root / CURRENT).is_file() else None
    except (OSError, UserError):
        return None


def _bundles(work_dir: Path) -> list[str]:
    return sorted(path.parent.name for path in (WorkDir(work_dir).bundles).glob(f"*/{artifacts.MANIFEST}"))


def _removed_unread(work_dir: Path) -> dict[str, int]:
    from adbeam.serving.events.retention import removed_unread  # Arrow is not loaded for other commands

    layout = WorkDir(work_dir)
    return {"event": removed_unread(layout.events), "request": removed_unread(layout.requests)}


def _steps(work_dir: Path) -> list[StepStatus]:
    found = []
    layout = WorkDir(work_dir)
    folders = [layout.prepared, layout.tokens, layout.training, *sorted(layout.evaluation.glob("*"))]
    for folder in folders:
        try:
            manifest = artifacts.read_manifest(folder, verify=False)
        except UserError:
            continue
        seconds = (folder / artifacts.MANIFEST).stat().st_mtime
        published = datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
        found.append(StepStatus(str(folder.relative_to(work_dir)), published, _scalars(manifest.get("metrics"))))
    return found


def _scalars(metrics: Any) -> dict[str, Any]:
    if not isinstance(metrics, Mapping):
        return {}
    rounded = {name: float(f"{value:.4g}") for name, value in metrics.items() if isinstance(value, int | float)}
    return dict(list(rounded.items())[:6])
