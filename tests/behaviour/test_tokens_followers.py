"""Two processes follow what a third appends to the update log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from adbeam.records import CatalogueItem
from adbeam.tokens.updates import AdUpdate, SqliteUpdateLog

REPLICA = """
import json, sys, time
from adbeam.tokens.follower import Follower
from adbeam.tokens.index import SidIndex
from adbeam.tokens.updates import SqliteUpdateLog
index = SidIndex(3)
follower = Follower(SqliteUpdateLog(sys.argv[1]), index, type("Fixed", (), {"version": "v"})(), interval_seconds=0.02)
follower.start()
print("ready", flush=True)
for line in sys.stdin:
    deadline = time.monotonic() + 20
    while len(index) != int(line) and time.monotonic() < deadline:
        time.sleep(0.005)
    print(len(index), len(index.item_ids), follower.watermark, flush=True)
"""


def test_two_processes_follow_what_a_third_appends(tmp_path: Path) -> None:
    log = SqliteUpdateLog(tmp_path / "log")
    replicas = [
        subprocess.Popen(
            [sys.executable, "-c", REPLICA, str(log.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        assert [replica.stdout.readline() for replica in replicas] == ["ready\n"] * 2
        inserts = [
            AdUpdate(
                operation="insert",
                item_id=f"n{n}",
                item=CatalogueItem(item_id=f"n{n}", title="an ad"),
                sid=(n % 4, 1, 2),
                tokenizer_version="v",
            )
            for n in range(50)
        ]
        for start in range(0, 50, 10):
            log.append(inserts[start : start + 10])
        answers = []
        for replica in replicas:
            print(50, file=replica.stdin, flush=True)
            answers.append(replica.stdout.readline().split())
        assert answers == [["50", "50", "50"]] * 2
        log.append([AdUpdate(operation="remove", item_id=f"n{n}") for n in range(49)])
        for replica in replicas:
            print(1, file=replica.stdin, flush=True)
            assert replica.stdout.readline().split() == ["1", "1", "99"]
    finally:
        for replica in replicas:
            replica.stdin.close()
            replica.wait(timeout=20)
