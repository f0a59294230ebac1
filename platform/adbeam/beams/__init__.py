"""The dynamic beam controller: ladder, cost model and policies; neither Ray nor torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adbeam.imports.lazy import names_of

if TYPE_CHECKING:
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

# Late: settings of jobs and of serving need `beams.config` alone.
__getattr__ = names_of(
    __name__,
    {
        "AutoscaleConfig": "adbeam.beams.config",
        "BatchCost": "adbeam.beams.cost",
        "BatchPlan": "adbeam.beams.controller",
        "BeamPolicyConfig": "adbeam.beams.config",
        "Controller": "adbeam.beams.controller",
        "ControllerSignals": "adbeam.beams.controller",
        "Ladder": "adbeam.beams.ladder",
        "LadderConfig": "adbeam.beams.config",
        "QueuedRequest": "adbeam.beams.backlog",
        "Rung": "adbeam.beams.ladder",
        "beam_rows": "adbeam.beams.cost",
        "generate_schedules": "adbeam.beams.ladder",
        "quality_by_widths": "adbeam.beams.ladder",
    },
)
