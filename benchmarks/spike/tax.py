"""What the platform costs: requests/s through HTTP, HAProxy and Serve against the bare engine, at saturation.

The decode process is on core 0 in both cases, all else on core 1; `small` size, one decode thread, one fixed width,
batches of at most 8.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.cost import BatchCost
from adbeam.bundle import write_bundle
from adbeam.bundle_settings import BundleSettings
from adbeam.catalogue.blocked import Blocked
from adbeam.features.spec import FeatureSpec
from adbeam.loadtest.connections import HttpPool
from adbeam.records import ACTIONS, CATALOGUE_SCHEMA, ITEM_KINDS
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.local import start
from adbeam.serving.engine.process import ProcessEngine, load_in_process
from adbeam.serving.engine.request import Query
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import user_history
from adbeam.workdir import WorkDir
from benchmarks.decode.setup import BY_LEVEL, model_of, random_sids, small
from benchmarks.spike.endpoint import ROOT

ADS, USERS, EVENTS = 20_000, 200, 128
BATCH, CLIENTS = 8, 24
DEADLINE_MS = 20_000.0
DECODE_CORE, OTHER_CORE = 0, 1
POLICY = {"policy": "static", "max_batch": BATCH, "batch_share": 1.0, "default_deadline_ms": DEADLINE_MS}
NOW_MS = 1_700_000_000_000


def platform_tax(folder: Path, port: int, seconds: float) -> dict[str, float]:
    """`platform_tax` is HTTP requests/s over bare requests/s; processor time and latency of a request beside it."""
    args = prepare(folder)
    with pinned(os.getpid(), OTHER_CORE):
        bare = bare_engine(args, seconds)
        endpoint = start(ROOT / "serving" / "ads.yaml", {**args, "policy": POLICY}, port)
        try:
            http = asyncio.run(_http(endpoint.url, seconds))
        finally:
            endpoint.stop()
    print(f"bare engine {bare:.1f} requests/s, through HTTP {http['tax_http_rps']:.1f}", flush=True)
    return {"platform_tax": http["tax_http_rps"] / bare, "tax_bare_rps": bare, **http}


def prepare(folder: Path) -> dict[str, Any]:
    """A `small` bundle with random weights and users with histories; the ServingConfig args that go with them."""
    model = small()
    sids = random_sids(ADS, model.codebooks)
    rows: dict[str, list[Any]] = {name: [None] * ADS for name in CATALOGUE_SCHEMA.names}
    rows |= {
        "item_id": [f"ad{row}" for row in range(ADS)], "title": [f"Ad {row}" for row in range(ADS)],
        "kind": ["ad"] * ADS, "status": ["active"] * ADS, "ecpm": [1.0] * ADS, "price": [1.0] * ADS,
    }  # fmt: skip
    catalogue = pa.table({name: pa.array(rows[name], CATALOGUE_SCHEMA.field(name).type) for name in rows})
    write_bundle(
        WorkDir(folder).bundles,
        model_config=model,
        settings=BundleSettings(
            feature_spec=FeatureSpec.of(model).as_dict(), tokens={}, scenes=["display"],
            ecpm_means=np.geomspace(0.1, 20.0, model.ecpm_buckets).tolist(),
        ),
        weights=model_of(model).state_dict(),
        codebooks={},
        ladder_quality={"metric": "none", "full_widths": list(BY_LEVEL), "schedules": []},
        catalogue=catalogue.append_column("sid", pa.array(sids.tolist(), pa.list_(pa.int32()))),
        details={"metrics": {}},
    )  # fmt: skip
    store, random = SqliteStore(folder / "h.sqlite"), np.random.default_rng(0)
    conversion, ad = ACTIONS.index("conversion"), ITEM_KINDS.index("ad")
    store.fill(
        "benchmark",
        (
            (f"u{user}", user_history((f"ad{row}", NOW_MS - 60_000 * (place + 1), conversion, ad, 1.0)
                                      for place, row in enumerate(random.integers(0, ADS, EVENTS).tolist())))
            for user in range(USERS)
        ),
    )  # fmt: skip
    store.close()
    return {
        "bundle": str(WorkDir(folder).bundles), "store": {"path": str(folder / "h.sqlite")},
        "event_log": {"folder": None}, "cache": {"enabled": False}, "deadline": {"max_ms": DEADLINE_MS},
    }  # fmt: skip


def bare_engine(args: dict[str, Any], seconds: float) -> float:
    """Requests/s of the decode process alone, full batches one after the other."""
    config, policy = ServingConfig.resolve(args), BeamPolicyConfig.parse(POLICY)
    store = SqliteStore(config.store.path)
    model = load_in_process(config.bundle, config, policy, store, Metrics(), BatchCost(1.0, 1.0, 0.01))
    assert isinstance(model.engine, ProcessEngine)
    _pin(psutil.Process(model.engine.pid), DECODE_CORE)
    try:
        random = np.random.default_rng(1)
        served, began = 0, float("nan")
        for batch in range(1_000_000):
            users = random.integers(0, USERS, BATCH).tolist()
            queries = [Query(f"u{user}", None, "display", 10, NOW_MS, Blocked()) for user in users]
            model.engine.answer(queries, [BY_LEVEL] * BATCH)
            if batch == 2:  # warm
                served, began = 0, time.perf_counter()
            elif batch > 2:
                served += BATCH
                if time.perf_counter() - began > seconds:
                    break
        return served / (time.perf_counter() - began)
    finally:
        model.engine.close()
        store.close()


async def _http(url: str, seconds: float) -> dict[str, float]:
    processes = _pin_platform()
    pool = HttpPool(f"{url}/v1/ads", {"Content-Type": "application/json"})
    random, latencies, served = np.random.default_rng(2), [], []
    counting = False

    async def client(end_s: float) -> None:
        while time.perf_counter() < end_s:
            body = {"user_id": f"u{random.integers(USERS)}", "count": 10, "timestamp": NOW_MS}
            began = time.perf_counter()
            answer = await pool.post(json.dumps(body).encode())
            if answer.status != 200:
                raise RuntimeError(f"status {answer.status}: {answer.body[:200]!r}")
            if counting:
                latencies.append(1000 * (time.perf_counter() - began))
                served.append(json.loads(answer.body)["served"])

    clients = [asyncio.create_task(client(time.perf_counter() + 3 + seconds)) for _ in range(CLIENTS)]
    await asyncio.sleep(3)
    counting, before, began = True, _cpu_seconds(processes), time.perf_counter()
    await asyncio.gather(*clients)
    elapsed, used = time.perf_counter() - began, _cpu_seconds(processes)
    pool.close()
    figures = {
        "tax_http_rps": len(latencies) / elapsed,
        "tax_latency_p50_ms": median(latencies),
        "tax_queue_p50_ms": median(entry["queue_ms"] for entry in served),
        "tax_decode_p50_ms": median(entry["decode_ms"] for entry in served),
    }
    for name in used:
        figures[f"tax_cpu_ms_{name}"] = 1000 * (used[name] - before.get(name, 0.0)) / len(latencies)
    return figures


def _pin_platform() -> dict[str, list[psutil.Process]]:
    """Pin every process of Ray, Serve and HAProxy, and this one; by what it does."""
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if process.pid == os.getpid():
            kind = "client"
        elif "adbeam.serving.engine.process" in command:
            kind = "decode"
        elif "ServeReplica" in command:
            kind = "replica"
        elif "haproxy" in command.split(" ")[0]:
            kind = "haproxy"
        elif "ray" in command and process.ppid() != 1:
            kind = "ray"
        else:
            continue
        if _belongs(process):
            _pin(process, DECODE_CORE if kind == "decode" else OTHER_CORE)
            found[kind].append(process)
    return found


def _belongs(process: psutil.Process) -> bool:
    """Whether this process started it, or what started it."""
    return process.pid == os.getpid() or any(parent.pid == os.getpid() for parent in process.parents())


def _pin(process: psutil.Process, core: int) -> None:
    for thread in process.threads():
        os.sched_setaffinity(thread.id, {core})


@contextmanager
def pinned(pid: int, core: int) -> Iterator[None]:
    """This process on one core; as before afterwards. What it starts inherits the core."""
    before = os.sched_getaffinity(pid)
    os.sched_setaffinity(pid, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(pid, before)


def _cpu_seconds(processes: dict[str, list[psutil.Process]]) -> dict[str, float]:
    used: dict[str, float] = {}
    for name, members in processes.items():
        times = [process.cpu_times() for process in members if process.is_running()]
        used[name] = sum(part.user + part.system for part in times)
    return used
