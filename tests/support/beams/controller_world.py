"""A replica of the controller alone, on a clock the test turns."""

from __future__ import annotations

from adbeam.beams.backlog import QueuedRequest
from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.controller import BatchPlan, Controller
from adbeam.beams.cost import BatchCost
from adbeam.beams.ladder import Ladder

FULL = (32, 64, 128)
COST = BatchCost(a_ms=1.0, c0_ms=1.0, c1_ms_per_row=0.04)  # 10 ms a request at full width


class World:
    """A replica with an injected clock: requests come evenly, batches take exactly what the cost model says."""

    def __init__(self, **settings: object) -> None:
        self.now_ms = 0.0
        self.config = BeamPolicyConfig.parse({"margin_ms": 5.0, "max_batch": 16, "batch_share": 0.4, **settings})
        self.ladder = Ladder.build(FULL, COST, config=self.config.ladder)
        self.controller = Controller(self.ladder, COST, self.config, lambda: self.now_ms)
        self.queue: list[QueuedRequest] = []
        self.plans: list[tuple[float, BatchPlan]] = []
        self.waited_ms: list[float] = []

    def arrive(self, count: int, deadline_ms: float = 100.0, value: float = 1.0) -> None:
        self.controller.arrived(count)
        self.queue += [QueuedRequest(self.now_ms, self.now_ms + deadline_ms, value)] * count

    def serve(self) -> BatchPlan:
        plan = self.controller.plan(self.queue)
        gone = {*plan.batch, *plan.late}
        ended_ms = self.now_ms + plan.uncorrected_ms
        self.waited_ms += [ended_ms - self.queue[position].arrived_ms for position in plan.batch]
        self.queue = [request for position, request in enumerate(self.queue) if position not in gone]
        self.plans.append((self.now_ms, plan))
        return plan

    def run(self, rate_per_second: float, seconds: float) -> None:
        """Serve `seconds` of evenly spaced arrivals."""
        gap_ms, end_ms = 1000.0 / rate_per_second, self.now_ms + 1000.0 * seconds
        next_ms, busy_until_ms, running = self.now_ms + gap_ms, self.now_ms, None
        while self.now_ms < end_ms:
            self.now_ms = min(next_ms, busy_until_ms if running else next_ms)
            if running and self.now_ms >= busy_until_ms:
                self.controller.finished(running, running.uncorrected_ms)
                running = None
            if self.now_ms >= next_ms:
                self.arrive(1)
                next_ms += gap_ms
            if running is None and self.queue:
                running = self.serve()
                running = running if running.batch else None
                busy_until_ms = self.now_ms + (running.uncorrected_ms if running else 0.0)
