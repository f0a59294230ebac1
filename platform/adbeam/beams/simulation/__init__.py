"""The controller's simulator: replicas in a discrete-event world, neighbours on it, and what no schedule can beat."""

from adbeam.beams.simulation.bound import allowed_full_width_share, servable
from adbeam.beams.simulation.replicas import Simulation
from adbeam.beams.simulation.result import FALLBACK, MODEL, SHED, SimulationResult
from adbeam.beams.simulation.slow_downs import NEIGHBOURS, SlowDown, Speed
from adbeam.beams.simulation.world import SimulationConfig

__all__ = [
    "FALLBACK",
    "MODEL",
    "NEIGHBOURS",
    "SHED",
    "Simulation",
    "SimulationConfig",
    "SimulationResult",
    "SlowDown",
    "Speed",
    "allowed_full_width_share",
    "servable",
]
