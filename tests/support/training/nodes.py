"""A training on a local Ray of two nodes, one of which goes.

`python -m tests.support.training.nodes kill|drain SETTINGS`

kill: the node dies without notice after the first checkpoint of two workers. drain: Ray announces its end before.

Prints {"worlds": [numbers of workers that wrote checkpoints]}.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from adbeam.config import Config
from adbeam.training import train
from adbeam.workdir import WorkDir

NOTICE_SECONDS = 60
NODE_CPUS = 3
"""One worker of two and its data tasks: two workers need both nodes."""


def main() -> None:
    """Train, let the second node go, and wait for the end."""
    mode, config = sys.argv[1], Config.load(sys.argv[2])
    arguments: dict[str, Any] = {"object_store_memory": 200 << 20, "include_dashboard": False}
    quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": NODE_CPUS, "_system_config": quick, **arguments}
    )
    second = cluster.add_node(num_cpus=NODE_CPUS, object_store_memory=200 << 20)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    end = kill_after_checkpoint if mode == "kill" else drain_after_steps
    ender = threading.Thread(target=end, args=(cluster, second, Path(config.work_dir)), daemon=True)
    ender.start()
    train(config)
    ender.join()
    print(json.dumps({"worlds": worlds(Path(config.work_dir))}), flush=True)
    ray.shutdown()
    cluster.shutdown()


def kill_after_checkpoint(cluster: Cluster, node: Any, work_dir: Path) -> None:
    """Kill -9 everything of `node` once two workers have saved together."""
    while 2 not in worlds(work_dir):
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)


def drain_after_steps(cluster: Cluster, node: Any, work_dir: Path) -> None:
    """Announce the end of `node` once the run takes steps, and kill it when two workers have saved together."""
    while not list(WorkDir(work_dir).training_runs.glob("*/metrics.parquet")):
        time.sleep(0.05)
    command = ["ray", "drain-node", "--address", cluster.address, "--node-id", node.node_id]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds"]
    subprocess.run([*command, str(NOTICE_SECONDS)], check=True, stdout=subprocess.DEVNULL)
    kill_after_checkpoint(cluster, node, work_dir)


SEEN: set[int] = set()


def worlds(work_dir: Path) -> list[int]:
    """Numbers of workers that checkpoints were written by, up to now."""
    for snapshot in WorkDir(work_dir).training_runs.glob("*/checkpoint_manager_snapshot.json"):
        SEEN.update(int(world) for world in re.findall(r"step_\d+_world(\d+)", snapshot.read_text(encoding="utf-8")))
    return sorted(SEEN)


if __name__ == "__main__":
    main()
