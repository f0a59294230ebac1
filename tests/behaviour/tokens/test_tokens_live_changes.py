"""Ads come and go by the thousand through the update log while the search runs: none is missing, none is dead."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from tests.support.decoding_samples import CONFIG, context_of, model_of

from adbeam.catalogue.follower import Follower
from adbeam.catalogue.index import Sid, SidIndex
from adbeam.catalogue.updates import AdUpdate, SqliteUpdateLog
from adbeam.decoding import Decoder, Trie
from adbeam.records import CatalogueItem

STEADY = 40
CHURNING = 150
EXHAUSTIVE = (32, STEADY + CHURNING, STEADY + CHURNING)
CODEBOOKS_VERSION = "codebooks"


class Replica:
    """An index and a trie that follow the log; row n of the trie is the ad `n`."""

    def __init__(self, log: SqliteUpdateLog, index: SidIndex, trie: Trie, watermark: int) -> None:
        self.trie = trie
        self.queued: list[AdUpdate] = []
        self.applied = 0
        codebooks = type("Codebooks", (), {"version": CODEBOOKS_VERSION})()
        self.follower = Follower(
            log, index, codebooks, watermark=watermark, interval_seconds=0.001, listener=self._forward
        )

    def _forward(self, update: AdUpdate, sid: Sid | None) -> None:
        self.queued.append(update)
        if update.operation == "insert":
            assert sid is not None
            self.trie.insert(int(update.item_id), sid)
        else:
            self.trie.remove(int(update.item_id))
        self.applied += 1


def random_updates(number: int, sids: list[Sid]) -> list[AdUpdate]:
    """Each ad is inserted at a new SID, or removed when it is there."""
    random, updates = np.random.default_rng(0), []
    there: set[int] = set()
    for _ in range(number):
        row = STEADY + int(random.integers(CHURNING))
        if row in there:
            there.remove(row)
            updates.append(AdUpdate(operation="remove", item_id=str(row)))
        else:
            there.add(row)
            item = CatalogueItem(item_id=str(row), title="an ad", ecpm=1.0)
            sid = sids[int(random.integers(len(sids)))]
            updates.append(
                AdUpdate(operation="insert", item_id=str(row), item=item, sid=sid, tokenizer_version=CODEBOOKS_VERSION)
            )
    return updates


@pytest.mark.parametrize("changes", [8_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_no_live_ad_is_missing_and_no_dead_one_is_shown(changes: int, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    sids = [tuple(int(random.integers(size)) for size in CONFIG.codebooks) for _ in range(300)]
    steady = {row: sids[row] for row in range(STEADY)}
    index = SidIndex(3)
    for row, sid in steady.items():
        index.insert(str(row), sid)
    log = SqliteUpdateLog(tmp_path / "updates.sqlite")
    replica = Replica(log, index, Trie.build(list(steady.values()), CONFIG.codebooks), 0)
    decoder, context = Decoder(model_of(), replica.trie), context_of(CONFIG, 1)
    updates = random_updates(changes, sids[STEADY:])
    allowed = threading.Semaphore(0)  # chunks that may be written: a twentieth of all with every search

    def write() -> None:
        for start in range(0, len(updates), 20):
            allowed.acquire()
            log.append(updates[start : start + 20])

    writer = threading.Thread(target=write, daemon=True)
    live, seen, searches, swapped = dict(steady), 0, 0, False
    replica.follower.start()
    writer.start()
    while seen < changes:
        allowed.release(len(updates) // 400)
        before = replica.applied
        (result,) = decoder.decode(context, [EXHAUSTIVE])
        during = replica.queued[before:]
        _apply(live, replica.queued[seen:before])
        seen, searches = before, searches + 1
        found = {tuple(sid) for sid in result.sids_nT.tolist()}
        moving = {update.item_id for update in during}
        must = {sid for row, sid in live.items() if str(row) not in moving}
        may = set(live.values()) | {update.sid for update in during if update.operation == "insert"}
        assert must <= found <= may
        if not swapped and seen > changes // 2:
            seen = 0
            replica, live, watermark = _swap(log, replica, decoder)
            swapped = True
            changes -= watermark
    writer.join()
    replica.follower.stop()
    assert swapped and searches >= 10
    assert set(replica.follower.index.live_sids()) == set(live.values())


def _apply(live: dict[int, Sid], updates: list[AdUpdate]) -> None:
    for update in updates:
        if update.operation == "insert":
            assert update.sid is not None
            live[int(update.item_id)] = update.sid
        else:
            del live[int(update.item_id)]


def _swap(log: SqliteUpdateLog, old: Replica, decoder: Decoder) -> tuple[Replica, dict[int, Sid], int]:
    """A new index and trie from the old one's checkpoint take over; they replay what came since."""
    watermark, table = old.follower.checkpoint()
    index = SidIndex.from_table(table)
    trie = Trie.build([(0, 0, 0)], CONFIG.codebooks)
    trie.remove(0)
    live = {int(item_id): sid for item_id in index.item_ids if (sid := index.sid(item_id)) is not None}
    for row, sid in live.items():
        trie.insert(row, sid)
    new = Replica(log, index, trie, watermark)
    decoder.swap(trie)
    new.follower.start()
    old.follower.stop()
    return new, live, watermark
