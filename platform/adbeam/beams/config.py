"""Settings of the beam controller, its ladder and the autoscaler: what `serving/policies/*.yaml` may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from adbeam.imports.extension_points import POLICIES
from adbeam.settings import Extensible, Section, read_yaml


class LadderConfig(Section):
    """Which width schedules the controller may choose from."""

    max_rungs: int = Field(8, ge=1, description="Rungs kept after the Pareto filter, off-peak rungs not counted.")
    floor_share: float = Field(0.125, gt=0, le=1, description="Smallest share of the full width of the last level.")
    min_final_width: int = Field(8, ge=1, description="Beams of the last level are never fewer (unless full is).")
    off_peak_bonus: float = Field(
        1.0, ge=1, le=4, description="Widest rung over the full widths; 1.6 is GR4AD's +60 %, 1.0 leaves it out."
    )


class TabsConfig(Section):
    """The law f = clip(1 + gain * h, floor, 1 + gain) of GR4AD 1.8.2, h the headroom (C - Q) / C."""

    gain: float = Field(0.6, gt=0, description="Off-peak gain: 0.6 widens by up to 60 %.")
    average_seconds: float = Field(5.0, gt=0, description="Window over which the live rate Q is averaged.")
    dead_band: float = Field(0.05, ge=0, lt=1, description="Smallest change of f that moves the rung.")


class BeamPolicyConfig(Extensible):
    """One policy of the beam controller. Reloadable without a restart of the replica."""

    policy: Annotated[str, AfterValidator(POLICIES.check)] = Field(
        "deadline", description="The rule that chooses a rung."
    )
    ladder: LadderConfig = LadderConfig()
    tabs: TabsConfig = TabsConfig()

    max_batch: int = Field(32, ge=1, description="Most requests decoded together.")
    batch_share: float = Field(
        0.3, gt=0, le=1, description="Longest a batch may take, as a share of the deadline granted to its requests."
    )
    default_deadline_ms: float = Field(100.0, gt=0, description="Deadline of a request that names none.")
    margin_ms: float = Field(8.0, ge=0, description="Time kept for the way back of an answer.")
    max_queue: int = Field(1024, ge=1, description="Requests that may wait in one replica; the next one is shed.")
    answer_late_early: bool = Field(
        True,
        description="Requests that cannot make it get the cache or the fallback in time; if false they wait until they "
        "are decoded, however late, and a full queue sheds.",
    )

    rate_windows_seconds: tuple[float, ...] = Field(
        (0.1, 0.5, 2.0, 8.0),
        min_length=1,
        description="Windows of the arrival rate: the longest still valid one rules.",
    )
    utilisation_bound: float = Field(0.92, gt=0, le=1, description="Cut when the rung would be busier than this.")
    widen_utilisation: float = Field(0.84, gt=0, le=1, description="Widen only to a rung that stays below this.")
    widen_slack: float = Field(
        0.5, gt=0, le=1, description="Widen only if the backlog then drains within this share of its deadlines."
    )
    widen_interval_ms: float = Field(400.0, gt=0, description="One rung wider at most once in this time.")
    hold_seconds: float = Field(
        12.0, ge=0, description="How long a rung that was given up is left alone at the same load; doubles each time."
    )
    max_hold_seconds: float = Field(60.0, ge=0, description="The longest such hold.")
    calm_utilisation: float = Field(
        0.6, ge=0, le=1, description="A rung given up below this was too wide for one hiccup, not for the load."
    )
    calm_hold_seconds: float = Field(1.0, ge=0, description="How long such a rung is left alone.")
    relief_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="A hold ends early once the arrival rate is below this share of the rate it began at.",
    )
    value_split: bool = Field(False, description="Under a cut, the requests worth most keep their width longest.")

    correction_gain: float = Field(0.3, gt=0, le=1, description="Weight of the newest batch in the cost correction.")

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.widen_utilisation >= self.utilisation_bound:
            raise ValueError("widen_utilisation must be below utilisation_bound, or the rung oscillates")
        if list(self.rate_windows_seconds) != sorted(set(self.rate_windows_seconds)):
            raise ValueError("rate_windows_seconds must rise")
        if self.margin_ms >= self.default_deadline_ms:
            raise ValueError("margin_ms must be below default_deadline_ms")
        return self

    @classmethod
    def named(cls, policy: str) -> Self:
        """The shipped settings of a policy, those of serving/policies/NAME.yaml."""
        baseline: dict[str, Any] = {} if policy == "deadline" else {"answer_late_early": False}
        if policy in ("tabs", "tabs_floor"):
            baseline["ladder"] = {"off_peak_bonus": 1.6}
        return cls.parse({"policy": policy, **baseline}, source="policy")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a policy file; raises UserError on a missing file, an unknown key or a value out of range."""
        return cls.parse(read_yaml(path), source=str(path))


class AutoscaleConfig(Section):
    """Replica count from demand at full width."""

    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(1, ge=1)
    target_utilisation: float = Field(0.7, gt=0, le=1, description="How busy a replica should be at full width.")
    look_ahead_seconds: float = Field(
        10.0, ge=0, description="How far a rising demand is extrapolated: the start time of a replica."
    )
    look_back_seconds: float = Field(10.0, gt=0, description="Demand samples the trend is fitted to.")
    upscale_cooldown_seconds: float = Field(0.0, ge=0, description="Least time between two scale-ups.")
    downscale_cooldown_seconds: float = Field(
        30.0, ge=0, description="How long fewer replicas must have sufficed before one goes."
    )
    downscale_margin: float = Field(
        0.85, gt=0, le=1, description="Fewer replicas suffice if full width fits in this share of their target."
    )

    @model_validator(mode="after")
    def _range_holds(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) must not exceed max_replicas ({self.max_replicas})")
        return self
