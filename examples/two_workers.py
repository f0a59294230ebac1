"""Training on two workers: python examples/two_workers.py (after own_log/run.py, whose prepared log it takes)

Ray Train starts two processes that share every step; DeepSpeed ZeRO 2 shares the optimiser's state and the gradients.
The batches are those of any number of workers, so the losses are nearly those of one.
"""

import sys

import adbeam

TWO_WORKERS = {"seed": 1, "training.workers": 2, "training.zero_stage": 2}
"""Another seed, for else it is the run that is done already: how many workers there are changes no fingerprint."""


def main(overrides: list[str]) -> None:
    """Train once, with `section.key=value` overrides."""
    settings = {**TWO_WORKERS, **dict(pair.split("=", 1) for pair in overrides)}
    config = adbeam.Config.load("examples/own_log/own_log.yaml", settings)
    result = adbeam.steps.train(config)
    print(f"{result.steps} steps on two workers, loss {result.metrics['loss']:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
