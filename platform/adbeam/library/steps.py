"""The steps of the jobs as functions: `adbeam.steps.train(config)` does what `adbeam train` does.

Each reads and writes folders of `config.work_dir`, is done when its folder is already of these inputs and settings, and
raises UserError naming field, value and remedy where the user can put something right. They use the Ray of this
process where one is initialised, else they start one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbeam.config import Config
    from adbeam.logs.prepared import PreparedLog
    from adbeam.online.rounds import RoundResult
    from adbeam.tokens.pipeline import Tokens
    from adbeam.training.trainer import TrainingResult

__all__ = [
    "evaluate",
    "export",
    "foundation",
    "generate_lists",
    "online",
    "prepare",
    "represent",
    "reward",
    "tokenize",
    "train",
]


def prepare(config: Config) -> PreparedLog:
    """Clean the log and catalogue of `config.logs` into events, sequences and splits under `work_dir/prepared`."""
    from adbeam.logs import prepare as run

    return run(config)


def tokenize(config: Config) -> Tokens:
    """Give every item of the prepared catalogue its semantic ID, in `work_dir/tokens`."""
    from adbeam.tokens import tokenize as run

    return run(config)


def train(config: Config) -> TrainingResult:
    """Train with Ray Train and DeepSpeed into `work_dir/training`; a rerun resumes from the last checkpoint."""
    from adbeam.training import train as run

    return run(config)


def foundation(config: Config) -> Path:
    """Train one model over all scenes, ads and organic, into `work_dir/foundation`; returns that folder."""
    from adbeam.foundation import foundation as run

    return run(config)


def represent(config: Config) -> Path:
    """Representations of users and items by moment, into `work_dir/representations`; returns that folder."""
    from adbeam.foundation import represent as run

    return run(config)


def reward(config: Config) -> Path:
    """Train the reward model on the log's exposures into `work_dir/reward`; returns that folder."""
    from adbeam.rewards import reward as run

    return run(config)


def generate_lists(config: Config) -> Path:
    """Generate candidate lists judged by the reward model into `work_dir/lists`; returns that folder."""
    from adbeam.rewards import generate_lists as run

    return run(config)


def export(config: Config) -> Path:
    """Turn `work_dir/training` into a bundle under `work_dir/bundles`; returns the bundle's folder."""
    from adbeam.export import export as run

    return run(config)


def evaluate(config: Config, split: str = "test") -> dict[str, dict[str, float]]:
    """{"all/model": {"recall@10": ...}, "new/popularity": ...} over the requests of `split`, validation or test."""
    from adbeam.evaluation.evaluate import evaluate as run

    return run(config, split)


def online(config: Config, rounds: int | None = None) -> list[RoundResult]:
    """Learn from what was served in rounds, `rounds` at most; publishes a bundle only where it is not worse."""
    from adbeam.online import online as run

    return run(config, rounds)
