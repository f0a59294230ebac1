"""How soon an ad inserted by one process is live in two others that follow the same update log."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from adbeam.records import CatalogueItem
from adbeam.tokens.updates import AdUpdate, SqliteUpdateLog

FOLLOWER = """
import sys, time
from adbeam.tokens.follower import Follower
from adbeam.tokens.index import SidIndex
from adbeam.tokens.updates import SqliteUpdateLog
seen = {}
index = SidIndex(3)
fixed = type("Codebooks", (), {"version": "v"})()
follower = Follower(SqliteUpdateLog(sys.argv[1]), index, fixed,
                    listener=lambda update, sid: seen.setdefault(update.item_id, time.time_ns()))
follower.start()
print("ready", flush=True)
sys.stdin.readline()
follower.poll()
follower.stop()
for item_id, stamp in seen.items():
    print(item_id, stamp)
"""


def insert_visible_ms(inserts: int = 500, pause_seconds: float = 0.02) -> tuple[float, float]:
    """(median, 99th percentile) of milliseconds from before the append until both followers' indexes hold the ad."""
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteUpdateLog(Path(folder) / "updates.sqlite")
        command = [sys.executable, "-c", FOLLOWER, str(log.path)]
        followers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
        for follower in followers:
            assert follower.stdout is not None and follower.stdout.readline() == "ready\n"
        sent = {}
        for number in range(inserts):
            item = CatalogueItem(item_id=f"ad{number}", title="an ad", ecpm=1.0)
            sent[item.item_id] = time.time_ns()
            update = AdUpdate(
                operation="insert", item_id=item.item_id, item=item, sid=(number % 7, 1, 2), tokenizer_version="v"
            )
            log.append([update])
            time.sleep(pause_seconds)
        answers = [
            dict(line.split() for line in follower.communicate("stop\n")[0].splitlines()) for follower in followers
        ]
    delays = [max(int(answer[item_id]) for answer in answers) - stamp for item_id, stamp in sent.items()]
    return float(np.median(delays) / 1e6), float(np.quantile(delays, 0.99) / 1e6)
