"""How many replicas Serve should run: a custom autoscaling policy fed by demand at full width.

In a Serve config file: `policy_function: adbeam.serving.autoscaling:FullWidthPolicy`, with the fields of
AutoscaleConfig but the bounds as `policy_kwargs`; Serve's min_replicas and max_replicas are the bounds. Leave `policy`
out for Serve's own policy on ongoing requests.
"""

from __future__ import annotations

import math
import time
from typing import Any

from ray.serve.config import AutoscalingContext

from adbeam.beams.autoscale import AutoscaleState, desired_replicas
from adbeam.beams.config import AutoscaleConfig

DEMAND = "demand_full_width"
STATE = "adbeam"


class FullWidthPolicy:
    """Callable as Serve wants it; what it must remember travels in Serve's policy state."""

    def __init__(self, **settings: Any) -> None:
        self._settings = AutoscaleConfig.parse(settings, source="policy_kwargs").model_dump(
            exclude={"min_replicas", "max_replicas"}
        )

    def __call__(self, ctx: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """(replicas, state) for the deployment in `ctx`."""
        state = (ctx.policy_state or {}).get(STATE) or AutoscaleState(ctx.target_num_replicas)
        config = AutoscaleConfig(
            min_replicas=ctx.capacity_adjusted_min_replicas,
            max_replicas=ctx.capacity_adjusted_max_replicas,
            **self._settings,
        )
        replicas, state = desired_replicas(total_demand(ctx), config, state, time.time())
        return replicas, {**(ctx.policy_state or {}), STATE: state}


def total_demand(ctx: AutoscalingContext) -> float:
    """Replicas that all arrivals would keep busy at full width; NaN while no replica has reported."""
    reported = (ctx.aggregated_metrics or {}).get(DEMAND) or {}
    return float(sum(reported.values())) if reported else math.nan
