"""Pressure and steal, from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from adbeam.serving.processor.machine import Machine

FULL = "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


class Kernel:
    """The two files, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.pressure, self.stat, self.now_s = folder / "cpu.pressure", folder / "stat", 100.0

    def tell(self, seconds: float, waited_us: int, busy: int, idle: int, steal: int) -> None:
        self.now_s += seconds
        self.pressure.write_text(f"some avg10=9.99 avg60=9.99 avg300=9.99 total={waited_us}\n{FULL}")
        self.stat.write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 2 3\n")

    def machine(self) -> Machine:
        missing = self.pressure.with_name("other.pressure")
        return Machine((missing, self.pressure), self.stat, lambda: self.now_s)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    kernel = Kernel(tmp_path)
    kernel.tell(0.0, 5_000_000, busy=1000, idle=9000, steal=50)
    return kernel


def test_shares_are_of_the_time_between_two_looks(kernel: Kernel) -> None:
    machine = kernel.machine()
    kernel.tell(2.0, 5_500_000, busy=1150, idle=9200, steal=100)
    machine.look()
    assert (machine.pressure_share, machine.steal_share) == (0.25, 0.25)
    kernel.tell(0.5, 6_000_000, busy=2000, idle=9200, steal=100)
    machine.look()
    assert machine.pressure_share == 0.25, "too soon for another look"
    kernel.tell(1.5, 7_500_000, busy=2000, idle=9400, steal=100)
    machine.look()
    assert (machine.pressure_share, machine.steal_share) == (1.0, 0.0)


def test_an_idle_machine_has_neither(kernel: Kernel) -> None:
    machine = kernel.machine()
    kernel.tell(2.0, 5_000_000, busy=1000, idle=9400, steal=50)
    machine.look()
    assert (machine.pressure_share, machine.steal_share) == (0.0, 0.0)


def test_a_kernel_that_does_not_tell_leaves_them_unknown(kernel: Kernel) -> None:
    kernel.pressure.unlink()
    kernel.stat.write_text("cpu  1 2 3 4\n")
    machine = kernel.machine()
    kernel.now_s += 5
    machine.look()
    assert (machine.pressure_share, machine.steal_share) == (None, None)
    kernel.pressure.write_text("nonsense\n")
    assert kernel.machine().pressure_share is None
