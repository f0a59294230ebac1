"""The reward system: what a shown ad is worth, and candidate lists judged by it (GR4AD 1.8.1)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbeam.rewards.generate import GenerateSettings
    from adbeam.rewards.trainer import RewardSettings


def reward(config: RewardSettings) -> Path:
    """Train the reward model on the prepared log's exposures into `work_dir/reward`, unless it is current."""
    from adbeam.rewards.trainer import reward as run

    return run(config)


def generate_lists(config: GenerateSettings) -> Path:
    """Generate and judge candidate lists for the prepared log's requests into `work_dir/lists`, unless current."""
    from adbeam.rewards.generate import generate_lists as run

    return run(config)
