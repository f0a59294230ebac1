"""A beam policy: the widest rung that keeps the replica as idle as was asked."""

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.ladder import Ladder
from adbeam.beams.policies import Load


class CalmPolicy:
    """Full width while the replica is busy for less than `options.busy_share` of the time, else narrower."""

    def __init__(self, ladder: Ladder, config: BeamPolicyConfig, rung: int, now_ms: float) -> None:
        self._ladder, self._busy_share = ladder, float(config.options.get("busy_share", 0.5))

    def choose(self, load: Load) -> int:
        """Index of the rung of the next batch."""
        rungs = range(self._ladder.full, len(self._ladder))
        return next((rung for rung in rungs if load.utilisation(rung) <= self._busy_share), self._ladder.floor)
