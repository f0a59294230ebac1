"""Two replica processes over HTTP: ads that one of them is told of are served by both, across a model swap."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from tests.support.replicas import start_replicas, stop_replicas, write_tokenized_bundle

from adbeam.serving.client import call

pytestmark = pytest.mark.alone

PORTS = (18301, 18302)
ADS = 60
BUNDLED = {f"ad{number}" for number in range(ADS)}


@dataclass
class Fleet:
    """The replicas and the folder of their bundles."""

    bundles: Path
    log: Path
    wrong: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    """Ads that every replica has been seen without."""

    def ads(self, port: int) -> set[str]:
        """Every live ad: the search is exhaustive."""
        body = {"count": 500, "deadline_ms": 20_000}
        status, answer = call(f"http://127.0.0.1:{port}", "POST", "/v1/ads", body, timeout_seconds=30)
        assert status == 200 and answer["served"]["source"] == "model"
        return {ad["item_id"] for ad in answer["ads"]}

    def change(self, port: int, operation: str, item_id: str, **values: Any) -> Any:
        if operation == "insert":
            values = {"item": {"item_id": item_id, "title": "dark coffee", "advertiser": "east", **values}}
        body = {"changes": [{"operation": operation, "item_id": item_id, **values}]}
        status, answer = call(f"http://127.0.0.1:{port}", "POST", "/v1/admin/ads", body, token="admin-key")
        assert status == 200, answer
        return answer

    def until(self, condition: Callable[[set[str]], bool], seconds: float = 30.0) -> float:
        """Seconds until the ads of every replica fulfil `condition`."""
        began = time.monotonic()
        for port in PORTS:
            while not condition(self.ads(port)):
                assert time.monotonic() - began < seconds
                time.sleep(0.01)
        return time.monotonic() - began

    def watch(self, port: int, stop: threading.Event) -> None:
        """Ask without pause: steady ads must always come, gone ones never again."""
        while not stop.is_set():
            gone = set(self.gone)
            found = self.ads(port)
            self.wrong += [f"{item} shown" for item in gone & found]
            self.wrong += [f"{item} missing" for item in BUNDLED - {"ad0", "ad1"} - found]
            time.sleep(0.1)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    write_tokenized_bundle(tmp_path / "bundles", ADS)
    (tmp_path / "keys").write_text("admin-key\n")
    args = {
        "bundle": str(tmp_path / "bundles"),
        "watch_seconds": 0.2,
        "policy": "static",
        "deadline": {"max_ms": 20_000},
        "limits": {"count_max": 1000},
        "cache": {"enabled": False},
        "store": {"path": str(tmp_path / "histories.sqlite")},
        "admin": {"mode": "bearer", "keys_file": str(tmp_path / "keys")},
        "updates": {"path": str(tmp_path / "updates.sqlite")},
        "engine": {"calibration_seconds": 0.2},
    }
    processes = start_replicas(args, PORTS)
    yield Fleet(tmp_path / "bundles", tmp_path / "updates.sqlite")
    stop_replicas(processes)


def test_ads_come_and_go_on_every_replica_and_survive_a_model_swap(fleet: Fleet) -> None:
    assert fleet.ads(PORTS[0]) == fleet.ads(PORTS[1]) == BUNDLED
    stop = threading.Event()
    watchers = [threading.Thread(target=fleet.watch, args=(port, stop)) for port in PORTS]
    for watcher in watchers:
        watcher.start()
    try:
        delays = []
        for number in range(5):
            receipt = fleet.change(PORTS[number % 2], "insert", f"new{number}", price=number + 1.0)
            assert receipt["last"] == number + 1 and len(receipt["ads"][0]["sid"]) == 3
            delays.append(fleet.until({f"new{number}"}.issubset))
        assert median(delays) < 1.0
        fleet.change(PORTS[0], "pause", "new0")
        fleet.change(PORTS[1], "remove", "ad0")
        fleet.until(lambda ads: not {"new0", "ad0"} & ads)
        fleet.gone |= {"new0", "ad0"}
        fleet.change(PORTS[0], "pause", "ad1")
        fleet.until(lambda ads: "ad1" not in ads)
        fleet.change(PORTS[1], "resume", "ad1")
        fleet.until(lambda ads: "ad1" in ads)
        expected = BUNDLED - {"ad0"} | {f"new{number}" for number in range(1, 5)}
        assert fleet.ads(PORTS[0]) == fleet.ads(PORTS[1]) == expected
        swapped = write_tokenized_bundle(fleet.bundles, ADS, seed=1)
        deadline = time.monotonic() + 60
        for port in PORTS:
            while call(f"http://127.0.0.1:{port}", "GET", "/v1/status")[1]["model_version"] != swapped.name:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert fleet.ads(PORTS[0]) == fleet.ads(PORTS[1]) == expected
        fleet.change(PORTS[0], "insert", "late")
        fleet.until(lambda ads: ads == expected | {"late"})
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()
    assert fleet.wrong == []
