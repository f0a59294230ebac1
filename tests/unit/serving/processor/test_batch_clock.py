"""The own time of a batch and what it lost to others: told apart for one thread, for several, and across processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from adbeam.serving.processor.batch_clock import BatchClock, lost_by_workers_ms
from adbeam.serving.processor.schedstat import ThreadAccounts, ThreadTimes, kernel_tells

CORE = min(os.sched_getaffinity(0))
NEIGHBOUR = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint('busy', flush=True)\nwhile True: pass"
DECODER = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
print("ready", flush=True)
for line in sys.stdin:
    end = time.process_time() + float(line)
    while time.process_time() < end: pass
    print("done", flush=True)
"""
needs_accounts = pytest.mark.skipif(not kernel_tells(), reason="this kernel does not account for waiting threads")


@contextmanager
def started(script: str) -> Iterator[subprocess.Popen[str]]:
    """A process of this script on CORE that has said its first word; ended by its own id."""
    command = [sys.executable, "-c", script, str(CORE)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def measured(work: Callable[[], object], tells: bool | None = None) -> tuple[float, float]:
    """Wall time and lost milliseconds of work done in a thread on CORE."""
    found: list[tuple[float, float]] = []

    def run() -> None:
        os.sched_setaffinity(0, {CORE})
        clock = BatchClock(tells)
        began_s = time.monotonic()
        clock.start(object())
        work()
        lost_ms = clock.off_cpu_ms()
        found.append((1000 * (time.monotonic() - began_s), lost_ms))
        clock.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def burn(ms: float) -> None:
    """Use so much of a processor."""
    end_s = time.thread_time() + ms / 1000
    while time.thread_time() < end_s:
        pass


@needs_accounts
def test_sleep_is_no_lost_time_and_a_neighbour_takes_some() -> None:
    sleep_ms, lost_asleep_ms = measured(lambda: time.sleep(0.08))
    assert lost_asleep_ms < 0.5 * sleep_ms
    with started(NEIGHBOUR):
        wall_ms, lost_ms = measured(lambda: burn(60))
    assert lost_ms > 15
    assert wall_ms - lost_ms == pytest.approx(60, abs=25), "what is left is the work"


def test_without_the_kernel_the_clocks_tell_of_a_neighbour_too() -> None:
    with started(NEIGHBOUR):
        wall_ms, lost_ms = measured(lambda: burn(60), tells=False)
    assert wall_ms - lost_ms == pytest.approx(60, abs=25)


class OtherProcess:
    """An engine in another process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def decode(self, seconds: float) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        self._process.stdout.readline()


@pytest.mark.parametrize("tells", [pytest.param(True, marks=needs_accounts), False])
def test_a_decode_process_beside_a_neighbour_is_measured_from_here(tells: bool) -> None:
    with started(DECODER) as child, started(NEIGHBOUR):
        engine, clock = OtherProcess(child), BatchClock(tells)
        engine.decode(0.01)
        began_s = time.monotonic()
        clock.start(engine)
        engine.decode(0.06)
        lost_ms, wall_ms = clock.off_cpu_ms(), 1000 * (time.monotonic() - began_s)
        assert wall_ms - lost_ms == pytest.approx(60, abs=30)
        child.kill()
        child.wait()
        clock.start(engine)
        assert clock.off_cpu_ms() >= 0, "a process that is gone says nothing"
        clock.close()


@needs_accounts
def test_a_pool_of_the_decoder_is_found_by_its_name() -> None:
    pool, clock, data = ThreadPoolExecutor(2, "decode"), BatchClock(), bytes(1 << 20)
    barrier = threading.Barrier(2)
    list(pool.map(lambda _: barrier.wait(), range(2)))  # both threads exist

    def work(_: int) -> None:
        os.sched_setaffinity(0, {CORE})
        end_s = time.thread_time() + 0.04
        while time.thread_time() < end_s:
            hashlib.sha256(data)  # leaves the interpreter to the other thread, as a matrix product does

    began_s = time.monotonic()
    clock.start(object())
    list(pool.map(work, range(2)))
    lost_ms, wall_ms = clock.off_cpu_ms(), 1000 * (time.monotonic() - began_s)
    assert lost_ms > 15, "two threads on one core waited for each other"
    assert wall_ms - lost_ms > 30
    pool.shutdown()
    clock.close()


MAIN, A, B, IDLE = 1, 2, 3, 4


@pytest.mark.parametrize(
    ("times", "wall_ms", "lost_ms"),
    [
        ({}, 50, 0),
        ({MAIN: (40, 10), IDLE: (0, 0)}, 50, 10),
        ({MAIN: (40, 10), IDLE: (1, 9)}, 50, 10),  # who hardly ran did no part of the batch
        ({MAIN: (1, 2), A: (30, 0), B: (28, 10)}, 40, 2 + 10),
        ({MAIN: (1, 0), A: (38, 0), B: (20, 10)}, 38, 0),  # B had less to do: its wait cost nothing
        ({MAIN: (1, 0), A: (30, 0), B: (28, 10)}, 38, 8),
        ({A: (20, 5), B: (20, 25)}, 45, 25),
    ],
)
def test_what_a_batch_loses_by_the_waits_of_its_threads(
    times: dict[int, tuple[float, float]], wall_ms: float, lost_ms: float
) -> None:
    since = {thread: ThreadTimes(*pair) for thread, pair in times.items()}
    assert lost_by_workers_ms(since, MAIN, wall_ms) == lost_ms


def test_threads_that_ended_or_never_were_say_nothing() -> None:
    accounts = ThreadAccounts(os.getpid())
    ids: list[int] = []
    thread = threading.Thread(target=lambda: ids.append(threading.get_native_id()))
    thread.start()
    thread.join()
    deadline_s = time.monotonic() + 5  # join returns a moment before the kernel forgets the thread
    while accounts.times(ids[0]) is not None and time.monotonic() < deadline_s:
        time.sleep(0.001)
    assert accounts.times(ids[0]) is None
    assert threading.get_native_id() in accounts.threads()
    accounts.close()
    nobody = ThreadAccounts(2**22 + 1)  # above any process id
    assert nobody.threads() == [] and nobody.times(1) is None
