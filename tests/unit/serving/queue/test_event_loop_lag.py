"""The event loop's lateness: the worst of late, soon forgotten, never more than it may cost."""

from __future__ import annotations

import pytest

from adbeam.serving.queue.event_loop_lag import HALF_LIFE_SECONDS, ReplyLag


def test_the_largest_lateness_fades_and_a_larger_one_replaces_it() -> None:
    now = [100.0]
    lag = ReplyLag(lambda: now[0])
    assert lag.ms(50.0) == 0.0
    lag.observe(due_s=99.96)
    lag.observe(due_s=99.999)
    assert lag.ms(50.0) == pytest.approx(40.0) and lag.ms(10.0) == 10.0
    now[0] += HALF_LIFE_SECONDS
    assert lag.ms(50.0) == pytest.approx(20.0)
    lag.observe(due_s=now[0] - 0.030)
    assert lag.ms(50.0) == pytest.approx(30.0)
