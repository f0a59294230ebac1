"""The steps that run as Ray jobs, and what each asks of a cluster. Manifests and `adbeam jobs submit` read it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from adbeam.errors import UserError


@dataclass(frozen=True)
class Step:
    """One step. `gpu`: its workers may run on GPUs. `driver_cpus`: what its own process needs, beside its workers.
    `retries`: how often it may be repeated; every step is safe to repeat."""

    name: str
    verb: str
    does: str
    gpu: bool = False
    driver_cpus: int = 1
    retries: int = 0

    @property
    def config(self) -> str:
        """The YAML the step reads when none is named."""
        return f"jobs/{self.name}.yaml"

    def entrypoint(self, config: str | None = None, overrides: tuple[str, ...] = ()) -> str:
        """The command a cluster runs; `overrides` are `key=value` pairs."""
        words = ["python", "-m", "adbeam.cli", *self.verb.split(), "--config", config or self.config]
        for pair in overrides:
            words += ["--set", pair]
        return shlex.join(words)


STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step("prepare", "prepare", "Cleans an ad log and catalogue into events, sequences and splits.", retries=1),
        Step("tokenize", "tokenize", "Gives every item of the catalogue its semantic ID.", driver_cpus=4, retries=1),
        Step("train", "train", "Trains with Ray Train and DeepSpeed; a repeat resumes.", gpu=True, retries=2),
        Step("foundation", "foundation", "Trains one model over all scenes; a repeat resumes.", gpu=True, retries=2),
        Step("represent", "represent", "Aggregates what the foundation makes of the log.", driver_cpus=2, retries=1),
        Step(
            "reward",
            "reward",
            "Trains the reward model on exposures; calibration is reported.",
            driver_cpus=2,
            retries=1,
        ),
        Step(
            "generate_lists", "generate-lists", "Candidate lists judged by the reward model.", driver_cpus=2, retries=1
        ),
        Step(
            "online",
            "online",
            "Continual training on served requests and feedback, behind a gate.",
            gpu=True,
            retries=2,
        ),
        Step("evaluate", "evaluate", "Ranks the catalogue for every request of a split.", driver_cpus=4, retries=1),
        Step("export", "export", "Turns the newest checkpoint into a bundle.", driver_cpus=4, retries=1),
    )
}


def step_named(name: str) -> Step:
    """The step called `name`; raises UserError naming the steps there are."""
    try:
        return STEPS[name]
    except KeyError:
        raise UserError("no such step", field="STEP", value=name, remedy=f"one of {', '.join(STEPS)}") from None
