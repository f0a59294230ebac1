"""The world around a simulated controller: true costs, noise, deadlines, replicas and what slows them down."""

from __future__ import annotations

from pydantic import Field

from adbeam.beams.cost import BatchCost
from adbeam.beams.simulation.slow_downs import SlowDown
from adbeam.settings import Section


class SimulationConfig(Section):
    """The world around the controller."""

    full_widths: tuple[int, ...] = (32, 64, 128)
    a_ms: float = Field(1.5, ge=0, description="True cost of a batch.")
    c0_ms: float = Field(1.2, ge=0, description="True cost of a request beside its beams.")
    c1_ms_per_row: float = Field(0.038, ge=0, description="True cost of a beam row.")
    deadline_ms: float = Field(100.0, gt=0)
    reply_ms: float = Field(2.0, ge=0, description="Way of an answer back to the client.")
    noise: float = Field(0.08, ge=0, description="Sigma of the log-normal noise on a batch time.")
    stall_share: float = Field(0.001, ge=0, le=1, description="Batches that stall.")
    stall_ms: float = Field(30.0, ge=0)
    arrival_ms: float = Field(0.1, ge=0, description="CPU an arrival takes from a running batch.")
    slow_down: SlowDown | None = Field(None, description="A neighbour on the machine; none by default.")
    fallback_quality: float = Field(0.3, ge=0, description="Quality of a fallback answer; full width is 1.")
    replicas: int = Field(1, ge=1, description="Replicas at the start.")
    start_up_seconds: float = Field(20.0, ge=0, description="From the decision for a replica to its first request.")
    decision_seconds: float = Field(1.0, gt=0, description="Between two decisions of the autoscaler.")
    ongoing_at_target: float | None = Field(
        None, gt=0, description="Drive the autoscaler by ongoing requests instead: how many mark target utilisation."
    )
    seed: int = 0

    @property
    def cost(self) -> BatchCost:
        """The true cost model."""
        return BatchCost(self.a_ms, self.c0_ms, self.c1_ms_per_row)
