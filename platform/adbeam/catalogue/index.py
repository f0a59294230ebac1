"""The semantic ID index, live: between SIDs and items, both ways (GR4AD 1.2.4).

Several items may share a SID: they are kept in order of live eCPM, then recency. Every change is made under a lock,
gets the next version number, and is kept for a while so that a decoder can follow: `changes_since(version)`.
Reads take no lock: they see the index before or after a change, never in between.

Shapes: N items, T SID levels.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adbeam.errors import UserError
from adbeam.records import ItemKind, Status

Sid = tuple[int, ...]
Operation = Literal["insert", "update", "pause", "resume", "remove"]


class Change(NamedTuple):
    """One step of the index. `sid_live` says whether the SID still has an item to show after it."""

    version: int
    operation: Operation
    item_id: str
    sid: Sid
    sid_live: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """An item of the index: where it is, what it earns (eCPM; None: nobody said), when it last changed, whether it may
    be shown."""

    sid: Sid
    ecpm: float | None
    changed: int
    active: bool


class SidIndex:
    """SID <-> items, changed live."""

    def __init__(self, levels: int, *, kept_changes: int = 200_000) -> None:
        self.levels = levels
        self._lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._items: dict[Sid, list[str]] = {}
        self._live: dict[Sid, tuple[str, ...]] = {}
        self._changes: deque[Change] = deque(maxlen=kept_changes)
        self._version = 0
        self._rows: tuple[int, np.ndarray, list[str]] | None = None

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """Build from `item_id` and `sid` (list of T codes), with `ecpm` and `status` where the table has them.

        Raises UserError when an id comes twice or a SID has another number of levels than the first.
        """
        sids = table.column("sid").to_pylist()
        index = cls(len(sids[0]) if sids else 0)
        names = table.column_names
        ecpms = table.column("ecpm").to_pylist() if "ecpm" in names else [None] * len(sids)
        statuses = table.column("status").to_pylist() if "status" in names else [Status.ACTIVE] * len(sids)
        ids = table.column("item_id").to_pylist()
        for row, (item_id, sid, ecpm, status) in enumerate(zip(ids, sids, ecpms, statuses, strict=True)):
            if item_id in index._entries:
                raise UserError("an item comes twice", field="item_id", value=item_id, remedy="keep one row per item")
            sid = index._checked(sid)
            index._entries[item_id] = Entry(sid, _number(ecpm), row - len(sids), status == Status.ACTIVE)
            index._items.setdefault(sid, []).append(item_id)
        for sid in index._items:
            index._sort(sid)
        return index

    @classmethod
    def of_catalogue(cls, table: pa.Table) -> Self:
        """The ads of a catalogue that have a SID; other items are never shown."""
        return cls.from_table(table.filter(pc.and_(pc.is_valid(table["sid"]), pc.equal(table["kind"], ItemKind.AD))))

    def __len__(self) -> int:
        """Items known, paused ones included."""
        return len(self._entries)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._entries

    @property
    def version(self) -> int:
        """Number of the newest change; 0 as built."""
        return self._version

    def sid(self, item_id: str) -> Sid | None:
        """The SID of an item, paused or not; None when it is unknown."""
        entry = self._entries.get(item_id)
        return entry.sid if entry else None

    def entry(self, item_id: str) -> Entry | None:
        """All that is known about an item."""
        return self._entries.get(item_id)

    def ecpm(self, item_id: str, otherwise: float | None = None) -> float | None:
        """The live eCPM of an item, None where nobody said; `otherwise` for an unknown item."""
        entry = self._entries.get(item_id)
        return otherwise if entry is None else entry.ecpm

    def ecpms(self, item_ids: Iterable[str]) -> list[float | None]:
        """The live eCPMs of items, None for an unknown item too."""
        entry_of = self._entries.get
        return [None if (entry := entry_of(item_id)) is None else entry.ecpm for item_id in item_ids]

    def worthless(self) -> list[str]:
        """The items whose live eCPM is 0."""
        with self._lock:
            return [item_id for item_id, entry in self._entries.items() if entry.ecpm == 0]

    def is_live(self, item_id: str) -> bool:
        """Whether an item may be shown now."""
        entry = self._entries.get(item_id)
        return entry is not None and entry.active

    def items(self, sid: Sequence[int]) -> list[str]:
        """The live items of a SID, highest eCPM first, then the most recently changed."""
        return list(self._live.get(tuple(sid), ()))

    def live_sids(self) -> Iterator[Sid]:
        """Every SID that has a live item."""
        with self._lock:
            return iter(list(self._live))

    @property
    def sids_NT(self) -> np.ndarray:
        """int32 [N, T]: the SIDs of the live items, in the order of `item_ids`."""
        return self.rows()[1]

    @property
    def item_ids(self) -> list[str]:
        """The live items."""
        return self.rows()[2]

    def rows(self) -> tuple[int, np.ndarray, list[str]]:
        """(version, sids_NT, item_ids) of the live items, consistent with each other."""
        with self._lock:
            if self._rows is None or self._rows[0] != self._version:
                ids = [item_id for item_id, entry in self._entries.items() if entry.active]
                sids_NT = np.array([self._entries[item_id].sid for item_id in ids], np.int32)
                self._rows = (self._version, sids_NT.reshape(len(ids), self.levels), ids)
            return self._rows

    def changes_since(self, version: int) -> list[Change] | None:
        """The changes after `version`, oldest first; None when they are no longer kept (then rebuild from `rows()`)."""
        with self._lock:
            missing = self._version - version
            if missing < 0 or missing > len(self._changes):
                return None
            return list(islice(reversed(self._changes), missing))[::-1]

    def insert(self, item_id: str, sid: Sequence[int], *, ecpm: float | None = None, active: bool = True) -> Change:
        """Add an item, or put a known one at another SID; visible to the next read."""
        sid = self._checked(sid)
        with self._lock:
            old = self._entries.get(item_id)
            if old is not None and old.sid != sid:
                self._take_out(item_id, old)
                self._record("remove", item_id, old.sid)
            if old is None or old.sid != sid:
                self._items.setdefault(sid, []).append(item_id)
            self._entries[item_id] = Entry(sid, _number(ecpm), self._version + 1, active)
            self._sort(sid)
            return self._record("insert", item_id, sid)

    def update(self, item_id: str, *, ecpm: float) -> Change:
        """Set the live eCPM; raises KeyError for an unknown item."""
        return self._change(item_id, "update", ecpm=float(ecpm))

    def touch(self, item_id: str) -> Change:
        """Say that something else of an item has changed; raises KeyError for an unknown item."""
        return self._change(item_id, "update")

    def pause(self, item_id: str) -> Change:
        """Hide an item; raises KeyError for an unknown one."""
        return self._change(item_id, "pause", active=False)

    def resume(self, item_id: str) -> Change:
        """Show a paused item again; raises KeyError for an unknown one."""
        return self._change(item_id, "resume", active=True)

    def remove(self, item_id: str) -> Change:
        """Forget an item; raises KeyError for an unknown one."""
        with self._lock:
            entry = self._entries.pop(item_id)
            self._take_out(item_id, entry)
            return self._record("remove", item_id, entry.sid)

    def snapshot(self) -> pa.Table:
        """The whole index as a table that `from_table` reads: item_id, sid, ecpm, status."""
        with self._lock:
            entries = sorted(self._entries.items(), key=lambda pair: pair[1].changed)
        return pa.table(
            {
                "item_id": pa.array([item_id for item_id, _ in entries], pa.string()),
                "sid": pa.array([entry.sid for _, entry in entries], pa.list_(pa.int32())),
                "ecpm": pa.array([entry.ecpm for _, entry in entries], pa.float64()),
                "status": pa.array(
                    [(Status.ACTIVE if entry.active else Status.PAUSED).value for _, entry in entries], pa.string()
                ),
            }
        )

    def _change(self, item_id: str, operation: Operation, **values: Any) -> Change:
        with self._lock:
            entry = self._entries[item_id]
            self._entries[item_id] = replace(entry, changed=self._version + 1, **values)
            self._sort(entry.sid)
            return self._record(operation, item_id, entry.sid)

    def _take_out(self, item_id: str, entry: Entry) -> None:
        self._items[entry.sid].remove(item_id)
        self._sort(entry.sid)

    def _sort(self, sid: Sid) -> None:
        """Renew the live list of a SID in one assignment, so that a reader sees the old list or the new."""
        ranked = sorted(
            (-(self._entries[item_id].ecpm or 0.0), -self._entries[item_id].changed, item_id)
            for item_id in self._items[sid]
            if self._entries[item_id].active
        )
        if ranked:
            self._live[sid] = tuple(item_id for _, _, item_id in ranked)
        else:
            self._live.pop(sid, None)
        if not self._items[sid]:
            del self._items[sid]

    def _record(self, operation: Operation, item_id: str, sid: Sid) -> Change:
        self._version += 1
        change = Change(self._version, operation, item_id, sid, sid in self._live)
        self._changes.append(change)
        return change

    def _checked(self, sid: Sequence[int]) -> Sid:
        codes = tuple(int(code) for code in sid)
        if len(codes) != self.levels or min(codes, default=-1) < 0:
            raise UserError(f"a SID of this index has {self.levels} codes >= 0", field="sid", value=list(sid))
        return codes


def _number(ecpm: float | None) -> float | None:
    return None if ecpm is None else float(ecpm)
