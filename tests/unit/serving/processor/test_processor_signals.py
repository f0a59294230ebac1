"""What batches lost, as controller, status and metrics hear it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.serving.gated_engine import GatedEngine, ask, running, until

from adbeam.serving.http.answer_schemas import ReplicaStatus
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.processor.batch_clock import BatchClock
from adbeam.serving.processor.machine import Machine
from adbeam.serving.processor.processor_shares import ProcessorShares
from adbeam.serving.processor.processor_signals import ProcessorSignals


class Waits(BatchClock):
    """Batches that lost what they are told to have lost."""

    def __init__(self) -> None:
        super().__init__(tells=True)
        self.lost_ms = 0.0

    def start(self, engine: object) -> None:
        pass

    def off_cpu_ms(self) -> float:
        return self.lost_ms


class Told(Machine):
    """A machine that is never looked at."""

    def __init__(self, pressure: float | None, steal: float | None) -> None:
        super().__init__((), Path("/nowhere"))
        self.pressure_share, self.steal_share = pressure, steal

    def look(self) -> None:
        pass


class Bench:
    """Signals of batches, on a clock the test turns."""

    def __init__(self, pressure: float | None = None, steal: float | None = None) -> None:
        self.now_s, self.waits = 50.0, Waits()
        self.signals = ProcessorSignals(self.waits, Told(pressure, steal), lambda: self.now_s)

    def batch(self, decode_ms: float, lost_ms: float) -> float:
        self.signals.start(object())
        self.waits.lost_ms = lost_ms
        return self.signals.finish(decode_ms)


def test_the_share_is_of_the_decode_time_of_the_last_seconds() -> None:
    bench = Bench()
    assert bench.signals.off_cpu_share() is None
    assert bench.batch(100.0, 90.0) == 90.0
    bench.now_s += 8
    bench.batch(20.0, 0.0)
    bench.batch(30.0, 60.0)  # no more than the batch took
    assert bench.signals.off_cpu_share() == pytest.approx(120 / 150)
    bench.now_s += 8
    assert bench.signals.off_cpu_share() == pytest.approx(30 / 50)


def test_steal_is_part_of_what_looked_like_running() -> None:
    bench = Bench(pressure=0.5, steal=0.2)
    assert bench.batch(100.0, 50.0) == pytest.approx(60.0)
    metrics = Metrics()
    bench.signals.publish(metrics)
    assert metrics.take()[2] == {("adbeam_cpu_pressure_share", ()): 0.5, ("adbeam_cpu_steal_share", ()): 0.2}
    summary = ProcessorShares.model_validate(bench.signals.summary())
    assert summary.off_cpu_share == 0.6 and summary.steal_share == 0.2 and summary.off_cpu_source == "run_queue"


def test_what_the_machine_does_not_tell_is_null_and_no_gauge() -> None:
    bench, metrics = Bench(), Metrics()
    bench.signals.publish(metrics)
    assert metrics.take()[2] == {}
    summary = ProcessorShares.model_validate(bench.signals.summary())
    assert (summary.off_cpu_share, summary.pressure_share, summary.steal_share) == (None, None, None)


async def test_the_controller_the_metrics_and_the_status_hear_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, heard = Bench(pressure=0.25), list[tuple[Any, ...]]()
    async with running(tmp_path, GatedEngine()) as service:
        loop = service.decoding
        loop.processor, bench.waits.lost_ms = bench.signals, 1e-3
        monkeypatch.setattr(loop._controller, "finished", lambda *told: heard.append(told))
        assert await ask(service, user_id="a")
        [(_, decode_ms, off_cpu_ms)] = heard
        assert 0 < off_cpu_ms <= decode_ms
        assert isinstance(service.metrics, Metrics)
        metrics = service.metrics
        await until(lambda: ("adbeam_decode_off_cpu_seconds", ()) in metrics._counts)  # counted after it was answered
        counts, _, _ = metrics.take()
        assert counts["adbeam_decode_off_cpu_seconds", ()] == pytest.approx(off_cpu_ms / 1000)
        status = ReplicaStatus.model_validate_json(service.status())
        assert status.processor.pressure_share == 0.25
        assert status.processor.off_cpu_share == pytest.approx(off_cpu_ms / decode_ms, abs=1e-3)
