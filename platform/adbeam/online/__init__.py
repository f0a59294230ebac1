"""The online loop: logs of what was served and what came of it -> continual training -> a gate -> the next bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbeam.online.loop import OnlineSettings
    from adbeam.online.rounds import RoundResult


def online(config: OnlineSettings, rounds: int | None = None) -> list[RoundResult]:
    """Run rounds until no new log file is left, or `rounds` of them; a round that was cut off is finished first."""
    from adbeam.online.rounds import run_rounds

    return run_rounds(config, rounds)
