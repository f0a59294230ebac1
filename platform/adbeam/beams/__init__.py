"""The dynamic beam controller: ladder, cost model and policies; neither Ray nor torch."""

from adbeam.beams.backlog import QueuedRequest
from adbeam.beams.config import AutoscaleConfig, BeamPolicyConfig, LadderConfig
from adbeam.beams.controller import BatchPlan, Controller, ControllerSignals
from adbeam.beams.cost import BatchCost, beam_rows
from adbeam.beams.ladder import Ladder, Rung, generate_schedules, quality_by_widths

__all__ = [
    "AutoscaleConfig",
    "BatchCost",
    "BatchPlan",
    "BeamPolicyConfig",
    "Controller",
    "ControllerSignals",
    "Ladder",
    "LadderConfig",
    "QueuedRequest",
    "Rung",
    "beam_rows",
    "generate_schedules",
    "quality_by_widths",
]
