"""Processor shares, as the status shows what a replica's batches lost to others on its machine."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class ProcessorShares(BaseModel):
    """What a replica's batches lost to others on its machine."""

    window_seconds: float
    off_cpu_share: float | None = Field(
        description="Share of the decode time of the last seconds ready to run and without a processor; null without."
    )
    off_cpu_source: Literal["run_queue", "cpu_clock"] = Field(
        description="run_queue: the kernel's own account; cpu_clock: wall clock less processor time, sleep included."
    )
    pressure_share: float | None = Field(
        description="Share of the last second in which something ready to run had no processor (PSI); null: unknown."
    )
    steal_share: float | None = Field(
        description="Share of busy time that the hypervisor gave to other machines; null: unknown."
    )
