"""Settings of the live catalogue's update log."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from adbeam.settings import Section


class UpdatesConfig(Section):
    """The update log of ads: what was added, changed or removed while replicas serve."""

    path: Path | None = Field(None, description="One SQLite file, for the replicas of one machine or file system.")
    redis_url: str | None = Field(None, description="redis://HOST:PORT/DB, for a fleet, without the password.")
    redis_password_env: str = Field("ADBEAM_REDIS_PASSWORD", description="Environment variable of the Redis password.")
    redis_key: str = Field("{adbeam:ad-updates}", min_length=1, description="Stream that holds the log in Redis.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.path is not None and self.redis_url is not None:
            raise ValueError("the update log is a file (path) or in Redis (redis_url), not both")
        return self
