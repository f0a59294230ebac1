"""The live index: order on one SID, changes, followers, threads."""

from __future__ import annotations

import random
import threading

import numpy as np
import pyarrow as pa
import pytest

from adbeam.catalogue.index import Change, SidIndex
from adbeam.errors import UserError


def index_of_four() -> SidIndex:
    return SidIndex.from_table(
        pa.table(
            {
                "item_id": ["a", "b", "c", "d"],
                "sid": [[1, 2], [1, 2], [3, 4], [1, 2]],
                "ecpm": [1.0, 5.0, None, 1.0],
                "status": ["active", "active", "active", "paused"],
            }
        )
    )


def kept_since(index: SidIndex, version: int) -> list[Change]:
    changes = index.changes_since(version)
    assert changes is not None
    return changes


def test_items_of_a_sid_come_by_ecpm_then_recency_and_without_paused_ones() -> None:
    index = index_of_four()
    assert index.items((1, 2)) == ["b", "a"]
    index.resume("d")
    assert index.items((1, 2)) == ["b", "d", "a"]
    index.update("a", ecpm=9.0)
    assert index.items((1, 2)) == ["a", "b", "d"]
    assert index.items((9, 9)) == []


def test_both_ways_and_rows_agree() -> None:
    index = index_of_four()
    assert index.sid("d") == (1, 2) and index.sid("unknown") is None
    assert index.item_ids == ["a", "b", "c"]
    np.testing.assert_array_equal(index.sids_NT, [[1, 2], [1, 2], [3, 4]])
    index.remove("b")
    assert index.item_ids == ["a", "c"] and len(index) == 3 and "b" not in index


def test_a_sid_dies_with_its_last_live_item_and_comes_back() -> None:
    index = index_of_four()
    assert not index.pause("c").sid_live
    assert (3, 4) not in set(index.live_sids()) and index.items((3, 4)) == []
    assert index.insert("e", (3, 4)).sid_live
    assert index.items((3, 4)) == ["e"]
    assert index.remove("b").sid_live and not index.remove("a").sid_live


def test_insert_moves_a_known_item() -> None:
    index = index_of_four()
    index.insert("a", (3, 4), ecpm=2.0)
    assert index.items((1, 2)) == ["b"] and index.items((3, 4)) == ["a", "c"]
    operations = [(change.operation, change.sid) for change in kept_since(index, 0)]
    assert operations == [("remove", (1, 2)), ("insert", (3, 4))]


def test_a_follower_that_applies_changes_equals_a_rebuild() -> None:
    index, draw = index_of_four(), random.Random(0)
    live, version = set(index.live_sids()), index.version
    for step in range(2000):
        item_id = f"x{draw.randrange(40)}"
        if item_id not in index or draw.random() < 0.3:
            index.insert(item_id, (draw.randrange(4), draw.randrange(4)), ecpm=draw.random())
        else:
            getattr(index, draw.choice(["pause", "resume", "remove"]))(item_id)
        if step % 7 == 0:
            for change in kept_since(index, version):
                (live.add if change.sid_live else live.discard)(change.sid)
                version = change.version
    for change in kept_since(index, version):
        (live.add if change.sid_live else live.discard)(change.sid)
    assert live == set(index.live_sids()) == {tuple(sid) for sid in index.sids_NT.tolist()}


def test_changes_that_are_no_longer_kept_ask_for_a_rebuild() -> None:
    index = SidIndex(1, kept_changes=3)
    for number in range(5):
        index.insert(f"ad{number}", (number,))
    assert index.changes_since(1) is None and index.changes_since(6) is None
    assert [change.item_id for change in kept_since(index, 2)] == ["ad2", "ad3", "ad4"]
    assert index.changes_since(5) == []


def test_a_snapshot_restores_the_same_order() -> None:
    index = index_of_four()
    index.resume("d")
    index.insert("e", (1, 2), ecpm=1.0)
    restored = SidIndex.from_table(index.snapshot())
    assert restored.items((1, 2)) == index.items((1, 2)) == ["b", "e", "d", "a"]
    assert set(restored.live_sids()) == set(index.live_sids())


def test_an_ecpm_that_nobody_said_is_none_and_not_0() -> None:
    table = pa.table({"item_id": ["a", "b", "c"], "sid": [[0], [0], [0]], "ecpm": [None, 0.0, 2.0]})
    index = SidIndex.from_table(table)
    assert [index.ecpm(item) for item in "abc"] == [None, 0.0, 2.0] and index.worthless() == ["b"]
    assert index.ecpm("x", 4.0) == 4.0 and index.items((0,))[0] == "c"
    index.update("a", ecpm=0.0)
    assert sorted(index.worthless()) == ["a", "b"]
    restored = SidIndex.from_table(index.snapshot())
    assert [restored.ecpm(item) for item in "abc"] == [0.0, 0.0, 2.0]


def test_readers_never_see_a_live_item_missing_while_others_change() -> None:
    index = SidIndex(2)
    index.insert("steady", (0, 0), ecpm=100.0)
    stop, seen = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            _, sids_NT, item_ids = index.rows()
            seen.append(index.items((0, 0))[0] == "steady" and len(sids_NT) == len(item_ids) and "steady" in item_ids)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=_churn, args=(index, name)) for name in ("p", "q")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert seen and all(seen)
    assert index.version == 1 + 2 * 3 * 300 and index.items((0, 0)) == ["steady"]


def _churn(index: SidIndex, name: str) -> None:
    for number in range(300):
        index.insert(f"{name}{number}", (0, 0), ecpm=1.0)
        index.pause(f"{name}{number}")
        index.remove(f"{name}{number}")


def test_twice_the_same_item_or_a_sid_of_another_length_is_refused() -> None:
    with pytest.raises(UserError, match="item_id: an item comes twice; got 'a'"):
        SidIndex.from_table(pa.table({"item_id": ["a", "a"], "sid": [[1], [2]]}))
    with pytest.raises(UserError, match="2 codes"):
        index_of_four().insert("z", (1, 2, 3))
    with pytest.raises(KeyError):
        index_of_four().pause("unknown")
