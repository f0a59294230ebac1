"""Settings of campaign budgets: section `budgets` of serving."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from adbeam.budgets.ledger import KEPT_DAYS
from adbeam.settings import Section
from adbeam.targeting.day_parts import zone


def _zone(name: str) -> str:
    zone(name)
    return name


class BudgetsConfig(Section):
    """The ledger of campaign budgets that all replicas share; without one no campaign has a budget."""

    path: Path | None = Field(None, description="One SQLite file, for the replicas of one machine or file system.")
    redis_url: str | None = Field(None, description="redis://HOST:PORT/DB, for a fleet, without the password.")
    redis_password_env: str = Field("ADBEAM_REDIS_PASSWORD", description="Environment variable of the Redis password.")
    redis_key: str = Field("{adbeam:budgets}", min_length=1, description="First part of the ledger's keys in Redis.")
    timezone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="In which a day turns.")
    poll_ms: float = Field(100.0, gt=0, le=1000, description="How often a replica tells and reads the ledger.")
    reserved_seconds: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="How long the expected money of an answered ad is held back for its impression.",
    )

    traffic_days: int = Field(
        7, ge=0, le=KEPT_DAYS - 1,
        description="Last days whose requests by the hour share out a day's money for pacing even; 0: time alone.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.path is not None and self.redis_url is not None:
            raise ValueError("the ledger of budgets is a file (path) or in Redis (redis_url), not both")
        return self

    @property
    def is_kept(self) -> bool:
        """Whether there is a ledger."""
        return self.path is not None or self.redis_url is not None
