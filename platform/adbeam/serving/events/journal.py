"""A journal: records that one process appends to a file, each whole or not there, read back after any death.

A file begins with MAGIC. A record is its length, a CRC-32, what kind it is, the number of its batch, and its bytes;
what follows the first record that is not whole was never acknowledged. A lock on the open file (flock) says that its
writer lives: it goes with the process, however that ends, and whoever gets it then owns the file.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

MAGIC = b"adbeam journal 1\n"
SUFFIX = ".journal"
BATCH, ANSWER = 1, 2
"""Kinds of records: events that came together, and for each of them whether the store had not known it."""
_HEAD = struct.Struct("<IIBQ")
_CHECKED = struct.Struct("<BQ")


class Record(NamedTuple):
    """One record; `number` joins an ANSWER to its BATCH."""

    kind: int
    number: int
    payload: bytes


class OtherFormat(ValueError):
    """The file is no journal of this version."""


class Journal:
    """One file of records, which this process alone writes; readable by its owner only."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        self._size = os.fstat(descriptor).st_size
        self.batches = self.rows = 0
        self.broken = False
        """The disk has failed under it: nothing more is written there."""

    @property
    def source(self) -> str:
        """Its name without marks: no other journal has or had it."""
        return self.path.name.removeprefix(".").removesuffix(SUFFIX)

    @classmethod
    def create(cls, folder: Path, prefix: str) -> Self:
        """A new file in `folder`; raises OSError."""
        while True:
            path = folder / f".{new_source(prefix)}{SUFFIX}"
            journal = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            try:
                fcntl.flock(journal._descriptor, fcntl.LOCK_EX)
                if os.fstat(journal._descriptor).st_nlink:  # else another took it for one whose writer has died
                    journal._write(MAGIC)
                    sync_folder(folder)
                    return journal
                journal.close()
            except OSError:
                journal.remove()
                raise

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """The file of a writer that has died, as one's own; None where it lives, or where the file is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return cls(path, descriptor)
        except OSError:
            pass
        os.close(descriptor)
        return None

    def begin(self, payload: bytes) -> int:
        """Append a batch and wait until the disk has it; returns its number. Raises OSError, then it is not kept."""
        before = self._size
        self._append(BATCH, self.batches, payload)
        try:
            os.fdatasync(self._descriptor)
        except OSError:  # what the disk has of the file is unknown from now on
            self.broken = True
            self._cut(before)
            raise
        self.batches += 1
        return self.batches - 1

    def answer(self, number: int, fresh: list[bool]) -> None:
        """Append what the store said of a batch; raises OSError, then the store is asked again."""
        self._append(ANSWER, number, bytes(fresh))
        self.rows += sum(fresh)

    def records(self) -> Iterator[Record]:
        """Every whole record; raises OtherFormat."""
        data = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        if len(data) >= len(MAGIC) and not data.startswith(MAGIC):
            raise OtherFormat(f"it does not begin with {MAGIC!r}: leave it to the version that wrote it")
        at = len(MAGIC)
        while at + _HEAD.size <= len(data):
            length, crc, kind, number = _HEAD.unpack_from(data, at)
            payload = data[at + _HEAD.size : at + _HEAD.size + length]
            if len(payload) < length or crc != _crc(kind, number, payload):
                return
            yield Record(kind, number, payload)
            at += _HEAD.size + length

    def close(self) -> None:
        """Let go of the file, and of the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Take the file away and let go of it."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _append(self, kind: int, number: int, payload: bytes) -> None:
        self._write(_HEAD.pack(len(payload), _crc(kind, number, payload), kind, number) + payload)

    def _write(self, data: bytes) -> None:
        at = self._size
        try:
            left = memoryview(data)
            while left:
                done = os.pwrite(self._descriptor, left, at)
                at, left = at + done, left[done:]
        except OSError:
            self._cut(self._size)  # the half of a record that a full disk took
            raise
        self._size = at

    def _cut(self, size: int) -> None:
        self._size = size
        try:
            os.ftruncate(self._descriptor, size)
        except OSError:
            self.broken = True


def new_source(prefix: str) -> str:
    """A name that no other file of any process has or had, in the order of time."""
    return f"{prefix}-{time.time_ns()}-{uuid.uuid4().hex[:8]}"


def _crc(kind: int, number: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(kind, number)))


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in `folder`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
