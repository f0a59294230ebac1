"""Every panel's query and every alert rule on a real Prometheus that scrapes a live adbeam."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import requests
import yaml
from tests.support.bundles import write_random_bundle
from tests.support.samples import write_sample_prepared
from tests.support.tools import tool

from adbeam import artifacts
from adbeam.dashboards.alerts import ALERTS
from adbeam.dashboards.build import DASHBOARDS
from adbeam.dashboards.exporter import serve as serve_steps
from adbeam.dashboards.plots import draw
from adbeam.dashboards.prometheus import Prometheus, without_data
from adbeam.dashboards.serving import SERVING
from adbeam.online.ledger import Ledger

ROOT = Path(__file__).parents[3]
SERVE_PORT, PROMETHEUS_PORT = 18320, 18321


@pytest.fixture(scope="module", autouse=True)
def prometheus_is_installed() -> str:
    return tool("prometheus")


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the steps leave behind: a prepared log, tokens, an evaluation, a bundle, a reward model, an online round."""
    folder = tmp_path_factory.mktemp("work")
    write_sample_prepared(folder, users=20, items=40, visits=6)
    write_random_bundle(folder / "bundles", items=200)
    levels = [{"utilisation": 0.9}, {"utilisation": 0.8}]
    with artifacts.publish(folder / "tokens", {}) as staging:
        artifacts.write_json(staging / "report.json", {"quality": {"col": 0.1, "cpr": 1.1, "levels": levels}})
    with artifacts.publish(folder / "evaluation" / "test", {}) as staging:
        artifacts.write_json(
            staging / "table.json", {"all/model": {"recall@10": 0.2}, "all/popularity": {"recall@10": 0.1}}
        )
    with artifacts.publish(folder / "reward", {"metrics": {"auc": 0.7, "ece": 0.01}}):
        pass
    _one_round(folder)
    return folder


def _one_round(folder: Path) -> None:
    """A round of the online loop, joined and refused."""
    ledger = Ledger(folder / "online")
    (folder / "requests").mkdir()
    pq.write_table(pa.table({"request_id": ["r"]}), folder / "requests" / "requests-1.parquet")
    begun = ledger.claim({"requests": folder / "requests"})
    assert begun is not None
    with artifacts.publish(ledger.round_folder(begun.number) / "join", {}) as staging:
        artifacts.write_json(staging / "counts.json", {"pending": 1, "used": 5, "expired": 0, "orphan": 0})
    with artifacts.publish(ledger.round_folder(begun.number) / "gate", {}) as staging:
        artifacts.write_json(staging / "verdict.json", {"published": False, "ndcg": -0.1, "ndcg_lower": -0.2})
    ledger.advance(begun.number, "done", "refused", "worse")
    ledger.close()


@pytest.fixture(scope="module")
def endpoint(ray_session: None, work_dir: Path) -> Iterator[str]:
    from adbeam.serving.deploy.local import start

    overrides = {
        "bundle": str(work_dir / "bundles"),
        "store.path": str(work_dir / "histories.sqlite"),
        "store.prepared": None,
        "event_log.folder": str(work_dir / "events"),
        "updates.path": str(work_dir / "ads.sqlite"),
        "engine.ecpm_scale": 2.0,
        "returned_money.window_hours": 1 / 3600,
    }
    endpoint = start(ROOT / "serving" / "ads.yaml", overrides, SERVE_PORT)
    try:
        yield endpoint.url
    finally:
        endpoint.stop()


@ray.remote(num_cpus=0)
class _Trainer:
    """Reports as rank 0 of a training does, and stays, as it does, until the run ends."""

    def __init__(self, folder: str) -> None:
        from adbeam.training.tracking.progress import RunReporter, print_nothing

        self._reporter = RunReporter(Path(folder), print_nothing, first_step=0, prometheus=True)
        self._reporter.report(
            {"step": 10.0, "loss": 1.5, "requests_per_second": 9.0, "learning_rate": 1e-3, "gradient_norm": 0.7,
             "list_kl": 0.2, "list_ndcg": 0.6, "entropy_share": 0.5, "invalid_share": 0.3, "collapsed_share": 0.1}
        )  # fmt: skip

    def stream(self) -> int:
        """A dataset that streams, as those of prepare do."""
        return ray.data.range(200, override_num_blocks=2).map_batches(lambda batch: batch).materialize().count()


@pytest.fixture(scope="module")
def prometheus(endpoint: str, work_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    actor: Any = _Trainer
    trainer = actor.remote(str(folder / "board"))
    streamed = trainer.stream.remote()
    steps = serve_steps(work_dir, "127.0.0.1", 0)
    threading.Thread(target=steps.serve_forever, daemon=True).start()
    targets = [f"127.0.0.1:{node['MetricsExportPort']}" for node in ray.nodes() if node["Alive"]]
    config = yaml.safe_load((ROOT / "cluster" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ROOT / "cluster" / "alerts.yml")]
    for job in config["scrape_configs"]:
        job.pop("file_sd_configs", None)
        own = job["job_name"] == "adbeam_steps"
        job["static_configs"] = [{"targets": [f"127.0.0.1:{steps.server_port}"] if own else targets}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    storage = ("--storage.tsdb.path", str(folder / "data"), "--web.listen-address", f"127.0.0.1:{PROMETHEUS_PORT}")
    command = ["prometheus", "--config.file", str(folder / "prometheus.yml"), *storage]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    done = threading.Event()
    load = threading.Thread(target=_load, args=(endpoint, done), daemon=True)
    load.start()
    try:
        assert ray.get(streamed) == 200
        yield Prometheus(f"http://127.0.0.1:{PROMETHEUS_PORT}", rate_window="20s")
    finally:
        done.set()
        load.join(10)
        process.terminate()
        process.wait(10)
        steps.shutdown()
        steps.server_close()
        ray.kill(trainer)


def _load(url: str, done: threading.Event) -> None:
    """Requests, late ones, bad ones and events, until told to end."""
    session, place = requests.Session(), 0
    while not done.wait(0.05):
        place += 1
        asked = {"user_id": f"u{place % 7}", "count": 3, "deadline_ms": 10 + place % 400}
        answer = session.post(f"{url}/v1/ads", json=asked)
        session.post(f"{url}/v1/ads", json={"count": -1})
        session.post(f"{url}/v1/events", json={"events": [_event(place), *_paid(answer, place)]})


def _paid(answer: requests.Response, place: int) -> list[dict[str, Any]]:
    """The first ad of an answer is shown and bought."""
    if answer.status_code != 200:
        return []
    body = answer.json()
    shown = {**_event(place), "request_id": body["request_id"], "item_id": body["ads"][0]["item_id"]}
    return [
        {**shown, "event_id": f"i{place}", "action": "impression"},
        {**shown, "event_id": f"c{place}", "action": "conversion", "price": 2.5},
    ]


def _event(place: int) -> dict[str, Any]:
    return {
        "event_id": f"e{place // 2}", "request_id": f"r{place}", "user_id": f"u{place % 7}", "item_id": "item-1",
        "timestamp": 1_700_000_000_000 + place, "action": "click",
    }  # fmt: skip


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.uid)
def test_every_panel_has_data(prometheus: Prometheus, page: Any) -> None:
    wanted = [panel for panel in page.panels if panel.needs != "gpu"]
    deadline = time.monotonic() + 40
    while (empty := without_data(prometheus, wanted)) and time.monotonic() < deadline:
        time.sleep(1)
    assert not empty, ", ".join(empty)


def test_panels_show_what_was_sent(prometheus: Prometheus) -> None:
    """After the panels have been waited for."""
    (refused,) = prometheus.now('sum(ray_adbeam_responses_total{status="422"})')
    assert refused.points[0][1] > 0
    (kept,) = prometheus.now('adbeam_prepared_rows{result="kept"}')
    assert kept.points[0][1] > 0
    (loss,) = prometheus.now("ray_adbeam_train_loss")
    assert loss.points[0][1] == 1.5
    assert not [series for series in prometheus.now("ray_adbeam_requests_total") if "user" in series.labels]


def test_every_alert_rule_is_evaluated_without_error(prometheus: Prometheus) -> None:
    body = requests.get(f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/rules", timeout=10).json()
    (group,) = body["data"]["groups"]
    assert [(rule["name"], rule["health"]) for rule in group["rules"]] == [(alert.name, "ok") for alert in ALERTS]


def test_the_serving_dashboard_is_drawn(prometheus: Prometheus, tmp_path: Path) -> None:
    now = time.time()
    empty = draw(SERVING, prometheus, now - 20, now, tmp_path / "serving.png")
    assert empty == []
    assert (tmp_path / "serving.png").stat().st_size > 50_000
