"""Settings of training."""

from __future__ import annotations

from pydantic import Field

from adbeam.settings import Section


class TrainingConfig(Section):
    """Ray Train and DeepSpeed."""

    batch_requests: int = Field(128, ge=1, description="Requests in one global optimiser step.")
