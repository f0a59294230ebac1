"""Real replicas without Ray: each a process with its own port, as Serve would run them, for benchmarks and tests.

The bundle has random weights and a fitted tokenizer, so that new ads can be encoded as in production.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from adbeam.bundle import write_bundle
from adbeam.bundle_settings import BundleSettings
from adbeam.errors import UserError
from adbeam.features.spec import FeatureSpec
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR
from adbeam.records import CATALOGUE_SCHEMA
from adbeam.serving.client import call
from adbeam.serving.deploy.environment import SWITCHES
from adbeam.tokens.config import TokensConfig
from adbeam.tokens.tokenizer import Tokenizer

WORDS = ("bread", "cheese", "coffee", "fruit", "pasta", "soap", "tea", "wine", "fresh", "dark", "mild", "large")
ADVERTISERS = ("north", "south", "west")
CODEBOOKS = (8, 4, 64)
REPLICA = """
import asyncio, json, sys
import torch, uvicorn
torch.set_num_threads(1)
from adbeam.serving.replica import Recommender
args, port = json.loads(sys.argv[1]), int(sys.argv[2])
async def main():
    replica = Recommender(args)
    replica._metrics.flush = replica._metrics.take  # there is no Ray to hand them to
    replica.service.fleet = dict  # Serve is not there to ask
    await replica.reconfigure({})
    await uvicorn.Server(uvicorn.Config(replica.__serve_build_asgi_app__(), port=port, log_level="warning")).serve()
    replica.service.close()
asyncio.run(main())
"""


def write_tokenized_bundle(
    root: Path, items: int, *, seed: int = 0, updates_watermark: int = 0, full_widths: Sequence[int] = (8, 32, 512)
) -> Path:
    """A bundle of `items` ads under `root`, in force; their SIDs are what its tokenizer gives. Returns its folder."""
    model = ModelConfig(
        width=32, layers=3, lazy_layers=2, heads=2, context_kv_heads=1, context_kv_groups=1, codebooks=CODEBOOKS,
        ecpm_buckets=8, short_length=12, long_length=6, item_buckets=256, prefix_buckets=256, user_buckets=64,
        dropout=0.0,
    )  # fmt: skip
    catalogue = _catalogue(items)
    tokenizer = Tokenizer.build(TokensConfig(), CODEBOOKS, seed=seed)
    tokenizer.fit(catalogue, None, seed=seed)
    sids = tokenizer.encode(catalogue).sids_NT.tolist()
    settings, tensors = tokenizer.state()
    torch.manual_seed(seed)
    return write_bundle(
        root,
        model_config=model,
        settings=BundleSettings(
            feature_spec=FeatureSpec.of(model).as_dict(),
            ecpm_means=np.geomspace(0.1, 20.0, model.ecpm_buckets).tolist(),
            tokens={**settings, "version": tokenizer.version},
            updates_watermark=updates_watermark,
            scenes=["display"],
        ),
        weights=LazyAR(model).state_dict(),
        codebooks=tensors,
        ladder_quality={"metric": "none", "full_widths": list(full_widths), "schedules": []},
        catalogue=catalogue.append_column("sid", pa.array(sids, pa.list_(pa.int32()))),
        details={"metrics": {}},
    )


def start_replicas(args: Mapping[str, Any], ports: Sequence[int], wait_seconds: float = 180.0) -> list[Any]:
    """One process a port, all with these ServingConfig args; returns when each is ready."""
    command = [sys.executable, "-c", REPLICA, json.dumps(args)]
    env = {**os.environ, **SWITCHES}  # a replica warns where they are missing
    processes = [subprocess.Popen([*command, str(port)], stdin=subprocess.DEVNULL, env=env) for port in ports]
    deadline = time.monotonic() + wait_seconds
    for port, process in zip(ports, processes, strict=True):
        while not is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                stop_replicas(processes)
                raise RuntimeError(f"the replica on port {port} did not start")
            time.sleep(0.1)
    return processes


def is_ready(port: int) -> bool:
    """Whether somebody answers there."""
    try:
        return call(f"http://127.0.0.1:{port}", "GET", "/readyz", timeout_seconds=2)[0] == 200
    except UserError:
        return False


def stop_replicas(processes: Sequence[Any]) -> None:
    """End them and wait."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(timeout=30)


def _catalogue(items: int) -> pa.Table:
    random = np.random.default_rng(0)
    rows = [
        {
            "item_id": f"ad{number}",
            "kind": "ad",
            "title": " ".join(random.choice(WORDS, 3)),
            "advertiser": ADVERTISERS[number % 3],
            "price": round(float(np.exp(random.normal())), 2),
            "ecpm": 1.0,
            "status": "active",
        }
        for number in range(items)
    ]
    return pa.Table.from_pylist(rows, schema=CATALOGUE_SCHEMA)
