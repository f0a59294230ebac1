"""One model over all scenes, ads and organic items, whose representations others use (LFM4Ads, arXiv 2508.14948)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbeam.foundation.represent import RepresentSettings
    from adbeam.foundation.trainer import FoundationSettings


def foundation(config: FoundationSettings) -> Path:
    """Train the foundation on the prepared log into `work_dir/foundation`, unless it is current."""
    from adbeam.foundation.trainer import foundation as run

    return run(config)


def represent(config: RepresentSettings) -> Path:
    """Aggregate what the foundation makes of the prepared log into `work_dir/representations`, unless it is current."""
    from adbeam.foundation.represent import represent as run

    return run(config)
