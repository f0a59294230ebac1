"""One's own beam policy under a spike, without a machine: python examples/own_policy.py

It needs the package of examples/outside_parts, which brings the policy `calm`:
pip install --no-deps --no-build-isolation examples/outside_parts. The simulator runs the controller that replicas run.
"""

import numpy as np

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.simulation import Simulation, SimulationConfig
from adbeam.loadtest.arrivals import steps

WORLD = SimulationConfig(deadline_ms=150.0)  # what a batch costs is in it too
POLICIES = {
    "calm": BeamPolicyConfig.load("examples/outside_parts/policy.yaml"),
    "deadline": BeamPolicyConfig.named("deadline"),
    "static": BeamPolicyConfig.named("static"),
}


def main() -> None:
    """Twenty calm seconds, ten at eight times the load, twenty calm ones again."""
    sent_ms = steps([(40, 20), (320, 10), (40, 20)], seed=1)
    spike_N = (sent_ms > 20_000) & (sent_ms < 30_000)
    print(f"{'policy':10} in time, by the model, mean width before the spike and in it")
    for name, policy in POLICIES.items():
        found = Simulation(WORLD, policy).run(sent_ms)
        figures = found.figures()
        calm, wide = (np.nanmean(found.width_N[part_N]) for part_N in (sent_ms < 20_000, spike_N))
        print(f"{name:10} {figures['in_deadline']:7.1%} {figures['model_in_deadline']:7.1%} {calm:7.0f} {wide:7.0f}")


if __name__ == "__main__":
    main()
