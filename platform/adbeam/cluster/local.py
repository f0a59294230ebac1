"""A local Ray cluster of several nodes on this machine, for trying what a real one does.

Every node is a `ray start --block` process on 127.0.0.1 with ports of its own and token authentication on. Their
process ids and start times are kept in a run folder; `down` ends those processes, and no others.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from adbeam import artifacts
from adbeam.errors import UserError

STATE = "cluster.json"
TOKEN = "auth_token"
PORTS_PER_NODE = 8
"""Ports set apart for each node: those of one machine must not take each other's."""
START_SECONDS = 90
START_ATTEMPTS = 3


@dataclass(frozen=True)
class NodeProcess:
    """A started node. `created` (seconds since 1970) tells it from a later process with the same id."""

    name: str
    pid: int
    created: float
    port_base: int


@dataclass
class LocalCluster:
    """A running local cluster, as recorded in its run folder."""

    folder: str
    temp_dir: str
    port_base: int
    nodes: list[NodeProcess] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where Ray drivers connect."""
        return f"127.0.0.1:{self.port_base}"

    @property
    def dashboard(self) -> str:
        """Where jobs are submitted."""
        return f"http://127.0.0.1:{self.port_base + 1}"

    @property
    def token_path(self) -> Path:
        return Path(self.folder) / TOKEN

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to use the cluster."""
        return {
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.dashboard,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_path),
        }

    def save(self) -> None:
        artifacts.write_json(Path(self.folder) / STATE, asdict(self))


def up(folder: Path, *, nodes: int, cpus: int, port_base: int, object_store_bytes: int) -> LocalCluster:
    """Start a head (no CPUs for tasks) and `nodes - 1` workers of `cpus` logical CPUs each.

    Raises UserError when one is running in `folder`, when a port is taken, or when a node does not come up; what was
    started until then is ended again.
    """
    folder = folder.resolve()
    if (folder / STATE).exists() and any(_alive(node) for node in load(folder).nodes):
        raise UserError(f"a cluster is running in {folder}", remedy="adbeam cluster down")
    _refuse_taken_ports(port_base, nodes)
    folder.mkdir(parents=True, exist_ok=True)
    # Ray keeps sockets in its temporary folder, and their paths must be short.
    cluster = LocalCluster(str(folder), tempfile.mkdtemp(prefix="adbeam-ray-"), port_base)
    _write_token(cluster.token_path)
    try:
        add_nodes(cluster, 1, cpus=0, object_store_bytes=object_store_bytes)
        add_nodes(cluster, nodes - 1, cpus=cpus, object_store_bytes=object_store_bytes)
    except BaseException:
        stop(cluster)
        raise
    return cluster


def add_nodes(cluster: LocalCluster, count: int, *, cpus: int, object_store_bytes: int) -> list[NodeProcess]:
    """Start `count` more nodes (the first of a cluster is the head), one after the other, and wait until each is up.

    Ray gives a node 30 seconds to join, which a busy machine may not keep: a node that was too late is tried again.
    """
    return [_add_node(cluster, cpus, object_store_bytes) for _ in range(count)]


def _add_node(cluster: LocalCluster, cpus: int, object_store_bytes: int, attempts: int = START_ATTEMPTS) -> NodeProcess:
    process, node = _launch(cluster, cpus, object_store_bytes)
    try:
        _wait_until_up(process, _log(Path(cluster.folder), node.name))
    except UserError:
        if node.name == "head" or attempts == 1:
            raise
        kill_node(cluster, node.name)
        return _add_node(cluster, cpus, object_store_bytes, attempts - 1)
    return node


def _launch(cluster: LocalCluster, cpus: int, object_store_bytes: int) -> tuple[subprocess.Popen[bytes], NodeProcess]:
    index = _next_index(cluster)
    name = "head" if index == 0 else f"worker-{index}"
    base = cluster.port_base + index * PORTS_PER_NODE
    with _log(Path(cluster.folder), name).open("wb") as output:
        process = subprocess.Popen(
            _ray_start(cluster, index, base, cpus, object_store_bytes),
            env={**os.environ, **_node_environment(cluster)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    node = NodeProcess(name, process.pid, psutil.Process(process.pid).create_time(), base)
    cluster.nodes.append(node)
    cluster.save()
    return process, node


def kill_node(cluster: LocalCluster, name: str) -> None:
    """End one node without warning, as a lost machine would."""
    for node in [node for node in cluster.nodes if node.name == name]:
        _end([node], grace_seconds=0)
        cluster.nodes.remove(node)
    cluster.save()


def stop(cluster: LocalCluster) -> None:
    """End every node of the cluster, workers first, and remove what it left."""
    _end(list(reversed(cluster.nodes)), grace_seconds=5)
    shutil.rmtree(cluster.temp_dir, ignore_errors=True)
    for name in (STATE, TOKEN):
        (Path(cluster.folder) / name).unlink(missing_ok=True)


def load(folder: Path) -> LocalCluster:
    """The cluster recorded in `folder`; raises UserError when there is none."""
    try:
        values = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return LocalCluster(**{**values, "nodes": [NodeProcess(**node) for node in values["nodes"]]})
    except OSError:
        raise UserError(f"no cluster is recorded in {folder}", remedy="adbeam cluster up") from None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{folder / STATE} is not readable", remedy="end the processes by hand and remove it") from None


def running(cluster: LocalCluster) -> list[str]:
    """Names of the nodes whose process lives."""
    return [node.name for node in cluster.nodes if _alive(node)]


def _ray_start(cluster: LocalCluster, index: int, base: int, cpus: int, object_store_bytes: int) -> list[str]:
    role = ["--address", cluster.address]
    if index == 0:
        role = ["--head", "--port", str(base), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(base + 1),
                "--include-dashboard", "true", "--ray-client-server-port", str(base + 7),
                "--temp-dir", cluster.temp_dir]  # fmt: skip
    ports = {
        "--object-manager-port": base + 2,
        "--node-manager-port": base + 3,
        "--dashboard-agent-listen-port": base + 4,
        "--dashboard-agent-grpc-port": base + 5,
        "--metrics-export-port": base + 6,
        # 0: workers take any free port, instead of Ray's range, into which the ports above may fall.
        "--min-worker-port": 0,
        "--max-worker-port": 0,
    }
    return [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *role, "--node-ip-address", "127.0.0.1",
        "--num-cpus", str(cpus), "--object-store-memory", str(object_store_bytes), "--disable-usage-stats",
        *(word for name, port in ports.items() for word in (name, str(port))),
    ]  # fmt: skip


def _node_environment(cluster: LocalCluster) -> dict[str, str]:
    from adbeam.cluster.pods import NODE_ENV
    from adbeam.serving.deploy.environment import SWITCHES

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # Logical CPUs may outnumber the cores: one thread a process.
    threads = {"OMP_NUM_THREADS": "1"}
    return {**NODE_ENV, **SWITCHES, **threads, **cluster.environment, "PATH": path, "RAY_ADDRESS": ""}


def _wait_until_up(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        text = log.read_text(encoding="utf-8", errors="replace")
        if "Ray runtime started" in text:
            return
        if process.poll() is not None:
            raise UserError(f"a node ended while starting: {_last_line(text)}", remedy=f"see {log}")
        time.sleep(0.1)
    raise UserError(f"a node did not start within {START_SECONDS} seconds", remedy=f"see {log}")


def _log(folder: Path, name: str) -> Path:
    return folder / f"{name}.log"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _end(nodes: list[NodeProcess], grace_seconds: float) -> None:
    """End the processes of `nodes` and everything they started."""
    processes: list[psutil.Process] = []
    for node in nodes:
        if _alive(node):
            parent = psutil.Process(node.pid)
            processes += [parent, *parent.children(recursive=True)]
    for process in processes:
        _signal(process, kill=grace_seconds == 0)
    _, left = psutil.wait_procs(processes, timeout=max(grace_seconds, 5))
    for process in left:
        _signal(process, kill=True)
    psutil.wait_procs(left, timeout=5)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill() if kill else process.terminate()


def _alive(node: NodeProcess) -> bool:
    try:
        process = psutil.Process(node.pid)
        same: bool = abs(process.create_time() - node.created) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _next_index(cluster: LocalCluster) -> int:
    used = {(node.port_base - cluster.port_base) // PORTS_PER_NODE for node in cluster.nodes}
    return next(index for index in range(len(used) + 1) if index not in used)


def _write_token(path: Path) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(secrets.token_hex(32))


def _refuse_taken_ports(port_base: int, nodes: int) -> None:
    for port in range(port_base, port_base + nodes * PORTS_PER_NODE):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise UserError(
                    "a port of the cluster is taken", field="--port-base", value=port, remedy="name another --port-base"
                ) from None
