"""Replicas from demand at full width."""

from __future__ import annotations

import itertools
import math

import pytest

from adbeam.beams.autoscale import AutoscaleState, desired_replicas
from adbeam.beams.config import AutoscaleConfig
from adbeam.errors import UserError

CONFIG = AutoscaleConfig(
    min_replicas=1, max_replicas=8, target_utilisation=0.7, look_ahead_seconds=10, downscale_cooldown_seconds=30
)


def drive(demands: list[float], config: AutoscaleConfig = CONFIG, replicas: int = 1) -> list[int]:
    """One decision a second."""
    state, wanted = AutoscaleState(replicas), []
    for second, demand in enumerate(demands):
        count, state = desired_replicas(demand, config, state, float(second))
        wanted.append(count)
    return wanted


def test_steady_demand_gets_what_the_target_needs() -> None:
    assert drive([0.5] * 60)[-1] == 1
    assert drive([2.0] * 60)[-1] == 3


def test_a_jump_is_answered_at_once_and_bounded() -> None:
    assert drive([0.3, 2.5])[-1] == 4
    assert drive([0.3, 50.0])[-1] == 8


def test_a_rise_is_answered_before_it_arrives() -> None:
    rising = [0.1 * second for second in range(12)]
    assert drive(rising)[-1] > drive(rising, CONFIG.model_copy(update={"look_ahead_seconds": 0.0}))[-1]


def test_replicas_leave_only_after_the_cool_down() -> None:
    wanted = drive([2.5] * 20 + [0.3] * 60)
    low = 20
    assert wanted[low + 29] == wanted[low - 1]
    assert wanted[-1] == 1


def test_a_dip_shorter_than_the_cool_down_changes_nothing() -> None:
    wanted = drive(([2.5] * 15 + [0.5] * 15) * 4)
    assert set(wanted[15:]) == {wanted[15]}


def test_demand_at_the_edge_does_not_flap() -> None:
    wanted = drive([1.39, 1.41] * 200)
    assert sum(a != b for a, b in itertools.pairwise(wanted[20:])) == 0


def test_the_upscale_cool_down_holds() -> None:
    config = CONFIG.model_copy(update={"upscale_cooldown_seconds": 5.0})
    state = AutoscaleState(1)
    first, state = desired_replicas(1.0, config, state, 0.0)
    held, state = desired_replicas(5.0, config, state, 1.0)
    later, _ = desired_replicas(5.0, config, state, 6.0)
    assert (first, held) == (2, 2)
    assert later == 8


def test_a_missing_signal_keeps_the_replicas() -> None:
    assert drive([2.5] * 5 + [math.nan] * 100 + [math.inf, -1.0])[-1] == 4


def test_min_above_max_is_refused() -> None:
    with pytest.raises(UserError, match="max_replicas"):
        AutoscaleConfig.parse({"min_replicas": 3, "max_replicas": 2})
