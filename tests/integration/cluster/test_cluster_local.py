"""A local cluster of three nodes with token authentication: jobs by the command line, Serve, and the loss of a node."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
import yaml
from tests.support.bundles import write_random_bundle
from tests.support.samples import write_sample_log

from adbeam import artifacts
from adbeam.cluster.local import LocalCluster, load

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
PORT_BASE = 18340
HTTP_PORT = 18399


def _adbeam(*arguments: str, timeout_seconds: float = 150, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `adbeam` as a user would: without the settings of these tests, and with no token but the one given."""
    own = ("RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH")
    clean = {name: value for name, value in os.environ.items() if name not in own}
    return subprocess.run(
        [sys.executable, "-m", "adbeam.cli", *arguments],
        env={**clean, "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("cluster")
    size = ("--nodes", "3", "--cpus", "2", "--object-store-mib", "100")
    started = _adbeam("cluster", "up", *size, "--port-base", str(PORT_BASE), "--folder", str(folder))
    assert started.returncode == 0, started.stderr
    cluster = load(folder)
    pids = [node.pid for node in cluster.nodes]
    children = [child for pid in pids for child in psutil.Process(pid).children(recursive=True)]
    yield cluster
    ended = _adbeam("cluster", "down", "--folder", str(folder))
    assert ended.returncode == 0, ended.stderr
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert not Path(cluster.temp_dir).exists()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a log, and the YAML of the steps."""
    folder = tmp_path_factory.mktemp("project")
    sample = write_sample_log(folder / "log", users=20, items=40, visits=6)
    (folder / "jobs").mkdir()
    settings = {"work_dir": str(folder / "runs"), "logs": sample.settings}
    (folder / "jobs" / "prepare.yaml").write_text(yaml.safe_dump(settings))
    (folder / "jobs" / "train.yaml").write_text("modell: {}\n")
    return folder


def _submit(cluster: LocalCluster, project: Path, step: str, **options: str) -> subprocess.CompletedProcess[str]:
    chosen = {"token_file": str(cluster.token_path), **options}
    words = [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", value)]
    return _adbeam("jobs", "submit", step, "--address", cluster.dashboard, "--working-dir", str(project), *words)


def test_a_step_runs_on_the_cluster_and_its_log_is_followed(cluster: LocalCluster, project: Path) -> None:
    done = _submit(cluster, project, "prepare", env="RAY_DATA_PARQUET_FOOTER_NUM_ACTORS=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rows in" in done.stdout
    assert artifacts.read_manifest(project / "runs" / "prepared")["files"]


def test_a_step_that_fails_ends_with_its_own_exit_code_and_message(cluster: LocalCluster, project: Path) -> None:
    failed = _submit(cluster, project, "train")
    assert failed.returncode == 2
    assert "unknown key 'modell'; did you mean 'model'?" in failed.stdout


def test_without_the_token_nothing_is_told(cluster: LocalCluster, project: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    refused = _submit(cluster, project, "prepare", token_file=str(wrong))
    assert refused.returncode == 2
    assert "refused the token" in refused.stderr
    assert requests.get(f"{cluster.dashboard}/api/jobs/", timeout=10).status_code == 401


def test_a_second_cluster_on_the_same_ports_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    again = _adbeam("cluster", "up", "--port-base", str(PORT_BASE), "--folder", str(tmp_path / "other"))
    assert again.returncode == 2
    assert "taken" in again.stderr
    same = _adbeam("cluster", "up", "--folder", cluster.folder)
    assert "adbeam cluster down" in same.stderr


@pytest.mark.full
def test_the_documented_ray_job_submit_runs_every_step(cluster: LocalCluster, tmp_path: Path) -> None:
    """The lines of docs/operate.md, prepare to evaluate, in a folder that holds no more than a configuration."""
    lines = (ROOT / "docs" / "operate.md").read_text().splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("ray job submit")]
    assert [command[command.index("adbeam.cli") + 1] for command in commands] == [
        "prepare", "tokenize", "train", "export", "evaluate",
    ]  # fmt: skip
    sample = write_sample_log(tmp_path / "log", users=40, items=90, visits=12)
    settings = {
        "work_dir": str(tmp_path / "runs"),
        "logs": sample.settings,
        "model": {"width": 32, "layers": 4, "lazy_layers": 2, "heads": 2, "codebooks": [16, 8, 16]},
        "decoding": {"widths": [8, 8, 8]},
        "tokens": {"gates": {"max_collision": None, "max_items_per_sid": None, "min_level_utilisation": None}},
        "training": {"workers": 2, "max_steps": 4, "batch_requests": 16, "ladder_requests": 8},
        "evaluation": {"max_requests": 5},
    }
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "train.yaml").write_text(yaml.safe_dump(settings))
    environment = {**os.environ, **cluster.environment, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(
            [word.replace("http://HEAD:8265", cluster.dashboard) for word in command],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout[-3000:]}"
    assert (tmp_path / "runs" / "bundles" / "CURRENT").is_file()
    assert (tmp_path / "runs" / "evaluation" / "test" / "table.json").is_file()


@pytest.mark.full
def test_the_service_outlives_a_lost_node(cluster: LocalCluster, tmp_path: Path) -> None:
    write_random_bundle(tmp_path / "bundles", items=200)
    config = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": HTTP_PORT},
        "applications": [
            {
                "name": "ads",
                "route_prefix": "/",
                "import_path": "adbeam.serving.app:build",
                "args": {
                    "bundle": str(tmp_path / "bundles"),
                    "store": {"path": str(tmp_path / "histories.sqlite")},
                    "deadline": {"max_ms": 5000},
                },
                "deployments": [
                    {"name": "Recommender", "num_replicas": 2, "max_replicas_per_node": 1,
                     "ray_actor_options": {"num_cpus": 1}}
                ],
            }
        ],
    }  # fmt: skip
    path = tmp_path / "ads.yaml"
    path.write_text(yaml.safe_dump(config))
    serve = [str(BIN / "serve"), "deploy", "-a", cluster.dashboard, str(path)]
    environment = {**os.environ, **cluster.environment}
    subprocess.run(serve, env=environment, check=True, timeout=60, stdin=subprocess.DEVNULL)
    _until(lambda: _running(cluster) == 2, 120)
    _until(lambda: _ask() == 200, 30)
    killed = _adbeam("cluster", "kill", "worker-2", "--folder", cluster.folder)
    assert killed.returncode == 0, killed.stderr
    answers = []
    for _ in range(100):
        time.sleep(0.2)
        answers.append(_ask())
    assert answers.count(200) >= 90, answers
    assert answers[-20:] == [200] * 20


def _ask() -> int:
    try:
        body = {"count": 3, "deadline_ms": 4000}
        return requests.post(f"http://127.0.0.1:{HTTP_PORT}/v1/ads", json=body, timeout=5).status_code
    except requests.exceptions.RequestException:
        return 0


def _running(cluster: LocalCluster) -> int:
    answer = _adbeam("status", "--address", cluster.dashboard, "--token-file", str(cluster.token_path), "--json")
    applications = yaml.safe_load(answer.stdout)["applications"]
    return sum(one["replicas"].get("RUNNING", 0) for application in applications for one in application["deployments"])


def _until(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.5)
