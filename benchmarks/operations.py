"""What operating adbeam rests on: checked YAML, tested documentation, panels with data, one's own log in minutes.

    python -m benchmarks.operations

Makes a CSV log with column names adbeam does not know, takes it from the YAML of docs/your-own-log.md to a served ad
with the command line, then trains again and serves under load while a real Prometheus scrapes, and runs every panel's
query. Needs `prometheus` on PATH. Writes operations.json and adbeam-serving.png.
"""

from __future__ import annotations

import csv
import datetime
import random
import re
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
from typing import Any

import yaml

from benchmarks.report import report

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "your-own-log.md"
SERVE_PORT, PROMETHEUS_PORT = 18380, 18381
USERS, VISITS, ADS = 150, 3000, 120
LOAD_SECONDS, LOAD_THREADS = 45.0, 6
SMALL = {
    "model": {"width": 48, "layers": 4, "lazy_layers": 2, "heads": 4, "codebooks": [32, 16, 32]},
    "decoding": {"widths": [16, 32, 64]},
    "training": {"workers": 2, "max_steps": 60, "report_interval_steps": 5},
    "tokens": {"gates": {"max_collision": None, "max_items_per_sid": None, "min_level_utilisation": None}},
}
"""A log of a few thousand rows needs a small model; the page says so."""


def main() -> None:
    """Run everything and write the result file."""
    folder = Path(tempfile.mkdtemp(prefix="adbeam-operations-"))
    try:
        commands, yaml_files = _tests(folder)
        minutes = _own_log(folder)
        panels, with_data, empty = _panels(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = {
        "panels": panels,
        "panels_with_data": with_data,
        "yaml_files_validated": yaml_files,
        "byo_log_minutes": round(minutes, 2),
        "docs_commands_tested": commands,
    }
    report("operations", figures, {"panels_without_data": empty, "own_log": {"rows": VISITS, "ads": ADS, **SMALL}})


def _tests(folder: Path) -> tuple[int, int]:
    """(commands of the documentation that parse, YAML files that their validators accept); stops on a failure."""
    modules = ("test_docs_commands", "test_cluster_manifests", "test_cluster_checks", "test_docs_own_log")
    result = folder / "tests.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junitxml={result}", *(f"tests/unit/{name}.py" for name in modules)],
        cwd=ROOT, check=True,
    )  # fmt: skip
    cases = [case.get("name", "") for case in ElementTree.parse(result).iter("testcase")]
    commands = sum(name.startswith("test_the_command_parses") for name in cases)
    read = [path for folder_name in ("cluster", "serving", "jobs") for path in (ROOT / folder_name).rglob("*.y*ml")]
    return commands, len(read)


def _own_log(folder: Path) -> float:
    """Minutes from two CSV files to a served ad."""
    _write_log(folder)
    settings = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[0])
    (folder / "mine.yaml").write_text(yaml.safe_dump({**settings, **SMALL}))
    began = time.monotonic()
    for step in ("prepare", "tokenize", "train", "export", "evaluate"):
        _adbeam(folder, step, "--config", "mine.yaml")
    with _endpoint(folder) as url:
        answer = _ask(url, {"user_id": "u1", "count": 3})
        assert answer["ads"], answer
    return (time.monotonic() - began) / 60


def _panels(folder: Path) -> tuple[int, int, list[str]]:
    """(panels, panels with data, titles of those without) while a training and an endpoint run."""
    from adbeam.dashboards.build import DASHBOARDS
    from adbeam.dashboards.exporter import serve as serve_steps
    from adbeam.dashboards.plots import draw
    from adbeam.dashboards.prometheus import Prometheus, without_data
    from adbeam.dashboards.serving import SERVING

    steps = serve_steps(folder / "runs" / "mine", "127.0.0.1", 0)
    threading.Thread(target=steps.serve_forever, daemon=True).start()
    began = time.time()
    with _endpoint(folder) as url, _prometheus(folder, steps.server_port) as address:
        done = threading.Event()
        threads = [threading.Thread(target=_load, args=(url, done), daemon=True) for _ in range(LOAD_THREADS)]
        trainer = threading.Thread(target=_train_again, args=(folder,))
        for thread in (trainer, *threads):
            thread.start()
        prometheus = Prometheus(address, rate_window="15s")
        empty = {panel.title for page in DASHBOARDS for panel in page.panels}
        until = time.monotonic() + LOAD_SECONDS
        while time.monotonic() < until or trainer.is_alive():
            empty &= {title for page in DASHBOARDS for title in without_data(prometheus, page.panels)}
            time.sleep(2)
        done.set()
        trainer.join()
        draw(SERVING, prometheus, began, time.time(), Path("adbeam-serving.png"))
    steps.shutdown()
    total = sum(len(page.panels) for page in DASHBOARDS)
    missing = sorted(panel.title for page in DASHBOARDS for panel in page.panels if panel.title in empty)
    return total, total - len(missing), missing


def _write_log(folder: Path) -> None:
    """log.csv and ads.csv with the column names of the page: users return to a category of their own."""
    log, ads = (
        block.splitlines()[0].split(",") for block in re.findall(r"```csv\n(.*?)```", PAGE.read_text(), re.DOTALL)
    )
    maker, groups = random.Random(0), ("shoes", "jackets", "hats", "tents")
    rows = [
        [f"A{number}", f"{groups[number % 4]} {number}", groups[number % 4], "North", 10 + number]
        for number in range(ADS)
    ]
    _write_csv(folder / "ads.csv", ads, rows)
    start, events = datetime.datetime(2025, 3, 1), []
    for visit in range(VISITS):
        user = maker.randrange(USERS)
        moment = start + datetime.timedelta(seconds=visit * 30 * 86_400 // VISITS)
        item = maker.randrange(ADS // 4) * 4 + user % 4
        events.append([f"u{user}", moment.isoformat(), f"A{item}", "conversion", 5 + item, f"v{visit}", "home"])
    _write_csv(folder / "log.csv", log, events)


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def _adbeam(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "adbeam.cli", *arguments], cwd=folder, check=True, stdin=subprocess.DEVNULL)


@contextmanager
def _endpoint(folder: Path) -> Iterator[str]:
    from adbeam.serving.launch import start

    work_dir = folder / "runs" / "mine"
    overrides = {
        "bundle": str(work_dir / "bundles"),
        "store.path": str(folder / "serving" / "histories.sqlite"),
        "store.prepared": str(work_dir / "prepared"),
        "event_log.folder": str(folder / "serving" / "events"),
    }
    endpoint = start(ROOT / "serving" / "ads.yaml", overrides, SERVE_PORT, ray_options={"num_cpus": 6})
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
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
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


def _train_again(folder: Path) -> None:
    """A training on the Ray that serves, with another seed so that it does run."""
    from adbeam.config import Config
    from adbeam.training import train

    train(Config.load(folder / "mine.yaml", {"seed": 1, "work_dir": str(folder / "runs" / "mine")}))


def _ask(url: str, body: dict[str, Any]) -> Any:
    import requests

    return requests.post(f"{url}/v1/ads", json=body, timeout=30).json()


def _load(url: str, done: threading.Event) -> None:
    """A closed loop of requests, some with deadlines that cannot be kept, some wrong, and the events that follow."""
    import requests

    session, place, name = requests.Session(), 0, threading.get_ident()
    while not done.is_set():
        place += 1
        body = {"user_id": f"u{place % USERS}", "count": 5, "deadline_ms": 10 + place % 150}
        session.post(f"{url}/v1/ads", json=body)
        event = {
            "event_id": f"{name}-{place}", "request_id": f"r{place}", "user_id": f"u{place % USERS}",
            "item_id": "A1", "timestamp": 1_740_000_000_000 + place, "action": "click",
        }  # fmt: skip
        session.post(f"{url}/v1/events", json={"events": [event]})
        if place % 20 == 0:
            session.post(f"{url}/v1/ads", json={"count": -1})


if __name__ == "__main__":
    main()
