"""What operating adbeam rests on: checked YAML, tested documentation, panels with data, one's own log in minutes.

    python -m benchmarks.operations

Takes a CSV log of a shape that adbeam does not know to a served ad by the commands of docs/your-own-log.md
(own_log.py), and one with users, devices, regions and rules to a targeted ad (told_log.py: `told_minutes`, alone with
--only told), then trains again and serves under load while a real Prometheus scrapes, and runs every panel's
query. The reward model and a round of the online loop run on what those requests left. Needs `prometheus` on PATH.
Writes operations.json, and adbeam-serving-spike.png: the serving dashboard during a ten-fold rise of the load.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml

from adbeam.dashboards.panels import Panel
from adbeam.loadtest import arrivals
from benchmarks.operations.own_log import ADS, USERS, VISITS, minutes_to_an_ad, run_adbeam
from benchmarks.operations.told_log import minutes_to_a_targeted_ad
from benchmarks.rig.report import report

ROOT = Path(__file__).parents[2]
SERVE_PORT, PROMETHEUS_PORT = 18820, 18821
LOAD_SECONDS, LOAD_THREADS = 45.0, 2
REST_SECONDS = 20.0
SPIKE_SECONDS, SPIKE_DEADLINE_MS, SPIKE_SHARE, MAX_BASE_PER_SECOND = 30.0, 150.0, 0.3, 60.0


def main() -> None:
    """Run everything and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["told"], help="print told_minutes and write no file")
    only = parser.parse_args().only
    folder = Path(tempfile.mkdtemp(prefix="adbeam-operations-"))
    try:
        if only:
            print(json.dumps({"told_minutes": round(minutes_to_a_targeted_ad(folder, SERVE_PORT), 2)}))
            return
        commands, yaml_files = _tests(folder)
        minutes = minutes_to_an_ad(folder, SERVE_PORT)
        told = minutes_to_a_targeted_ad(folder, SERVE_PORT)
        run_adbeam(folder, "reward", "--config", "jobs/mine.yaml")
        panels, with_data, empty = _panels(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = {
        "panels": panels,
        "panels_with_data": with_data,
        "yaml_files_validated": yaml_files,
        "byo_log_minutes": round(minutes, 2),
        "told_minutes": round(told, 2),
        "docs_commands_tested": commands,
    }
    report("operations", figures, {"panels_without_data": empty, "own_log": {"rows": 2 * VISITS, "ads": ADS}})


def _tests(folder: Path) -> tuple[int, int]:
    """(commands of the documentation that parse, YAML files that their validators accept); stops on a failure."""
    modules = ("docs/test_docs_commands", "cluster/test_cluster_manifests", "cluster/test_cluster_checks",
               "docs/test_docs_own_log")  # fmt: skip
    result = folder / "tests.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junitxml={result}", *(f"tests/unit/{name}.py" for name in modules)],
        cwd=ROOT, check=True,
    )  # fmt: skip
    cases = [case.get("name", "") for case in ElementTree.parse(result).iter("testcase")]
    commands = sum(name.startswith("test_the_command_parses") for name in cases)
    read = [path for folder_name in ("cluster", "serving", "jobs") for path in (ROOT / folder_name).rglob("*.y*ml")]
    return commands, len(read)


def _panels(folder: Path) -> tuple[int, int, list[str]]:
    """(panels that can have data here, those that had, titles of the others) while a training and an endpoint run."""
    from adbeam.dashboards.build import DASHBOARDS
    from adbeam.dashboards.exporter import serve as serve_steps
    from adbeam.dashboards.plots import draw
    from adbeam.dashboards.prometheus import Prometheus, without_data
    from adbeam.dashboards.serving import SERVING

    steps = serve_steps(folder / "runs" / "mine", "127.0.0.1", 0)
    threading.Thread(target=steps.serve_forever, daemon=True).start()
    with _endpoint(folder) as url, _prometheus(folder, steps.server_port) as address:
        done = threading.Event()
        threads = [threading.Thread(target=_load, args=(url, done), daemon=True) for _ in range(LOAD_THREADS)]
        trainer = threading.Thread(target=_learn_again, args=(folder,))
        for thread in (trainer, *threads):
            thread.start()
        prometheus = Prometheus(address, rate_window="15s")
        empty = {(page.uid, panel.title) for page in DASHBOARDS for panel in page.panels}
        until, rested = time.monotonic() + LOAD_SECONDS, float("inf")
        while time.monotonic() < rested:
            empty &= {(page.uid, title) for page in DASHBOARDS for title in without_data(prometheus, page.panels)}
            time.sleep(2)
            if not done.is_set() and time.monotonic() > until and not trainer.is_alive():
                done.set()
                rested = time.monotonic() + REST_SECONDS
        began = time.time()
        _spike(url)
        draw(SERVING, prometheus, began, time.time(), Path("adbeam-serving-spike.png"))
    steps.shutdown()
    counted = [(page.uid, panel.title) for page in DASHBOARDS for panel in page.panels if _can_have_data(panel)]
    missing = sorted(f"{page}: {title}" for page, title in counted if (page, title) in empty)
    return len(counted), len(counted) - len(missing), missing


def _can_have_data(panel: Panel) -> bool:
    """Panels of GPUs have none on a machine without."""
    return panel.needs != "gpu" or torch.cuda.is_available()


@contextmanager
def _endpoint(folder: Path) -> Iterator[str]:
    from adbeam.serving.deploy.local import of_work_dir, start

    work_dir = folder / "runs" / "mine"
    # Ray's 10 s would hide the spike's shape, and the logs' minute would keep the online loop waiting.
    options = {"num_cpus": 6, "_system_config": {"metrics_report_interval_ms": 1000}}
    rotation = {"event_log.rotate_seconds": 5.0, "request_log.rotate_seconds": 5.0}
    overrides = {**of_work_dir(work_dir), **rotation}
    endpoint = start(ROOT / "serving" / "ads.yaml", overrides, SERVE_PORT, ray_options=options)
    try:
        yield endpoint.url
    finally:
        endpoint.stop()


@contextmanager
def _prometheus(folder: Path, steps_port: int) -> Iterator[str]:
    import ray

    nodes = [f"127.0.0.1:{node['MetricsExportPort']}" for node in ray.nodes() if node["Alive"]]
    targets = [("ray", nodes), ("adbeam_steps", [f"127.0.0.1:{steps_port}"])]
    config = {
        "global": {"scrape_interval": "3s", "scrape_timeout": "3s"},
        "scrape_configs": [{"job_name": name, "static_configs": [{"targets": where}]} for name, where in targets],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    listen = f"127.0.0.1:{PROMETHEUS_PORT}"
    command = [
        "prometheus",
        "--config.file",
        str(folder / "prometheus.yml"),
        "--storage.tsdb.path",
        str(folder / "data"),
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, "--web.listen-address", listen], stdout=log, stderr=log)
    try:
        time.sleep(3)
        yield f"http://{listen}"
    finally:
        process.terminate()
        process.wait(10)


def _spike(url: str) -> None:
    """Open-loop load that rises ten-fold, from below what one replica carries at full width to far above it."""
    from adbeam.loadtest.runner import LoadTarget, bodies, run_load
    from adbeam.serving.client import call

    base = min(SPIKE_SHARE * call(url, "GET", "/v1/status")[1]["full_width_capacity_per_second"], MAX_BASE_PER_SECOND)
    target = LoadTarget(url=f"{url}/v1/ads", deadline_ms=SPIKE_DEADLINE_MS)
    planned_ms = arrivals.step(base, 10, SPIKE_SECONDS, SPIKE_SECONDS, SPIKE_SECONDS)
    run_load(planned_ms, bodies([f"client-{user}" for user in range(USERS)], target, len(planned_ms)), target)
    time.sleep(3)


def _learn_again(folder: Path) -> None:
    """On the Ray that serves: a training, with another seed so that it does run, then a round of the online loop over
    the requests and events of the load."""
    from adbeam.config import Config
    from adbeam.online.rounds import run_rounds
    from adbeam.training import train

    work_dir = str(folder / "runs" / "mine")
    train(Config.load(folder / "jobs" / "mine.yaml", {"seed": 1, "work_dir": work_dir}))
    # A model of a few seconds draws hardly any SID that an ad has: that rail is left open.
    rails = {"training.rails.interval_steps": 1, "training.rails.max_invalid_share": 1.0}
    lists = {"objectives.preference.method": "rspo", **rails}
    run_rounds(Config.load(folder / "jobs" / "mine.yaml", {"work_dir": work_dir, **lists}), limit=1)


def _load(url: str, done: threading.Event) -> None:
    """A closed loop of requests, some with deadlines that cannot be kept, some wrong, and the events that follow: every
    ad of an answer is seen, the first is clicked and bought."""
    import requests

    session, place, name = requests.Session(), 0, threading.get_ident()
    while not done.is_set():
        place += 1
        user = f"client-{place % USERS}"
        answer = session.post(f"{url}/v1/ads", json={"user_id": user, "count": 5, "deadline_ms": 10 + place % 150})
        if answer.status_code == 200:
            shown = [ad["item_id"] for ad in answer.json()["ads"]]
            seen = [("impression", item) for item in shown]
            seen += [(action, item) for action in ("click", "conversion") for item in shown[:1]]
            events = [
                {"event_id": f"{name}-{place}-{number}", "request_id": answer.json()["request_id"], "user_id": user,
                 "item_id": item, "timestamp": int(time.time() * 1000), "action": action,
                 "price": 9.0 if action == "conversion" else None}
                for number, (action, item) in enumerate(seen)
            ]  # fmt: skip
            session.post(f"{url}/v1/events", json={"events": events})
        if place % 20 == 0:
            session.post(f"{url}/v1/ads", json={"count": -1})
