"""Weights of the losses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adbeam.settings import Section


class ObjectivesConfig(Section):
    """VSL (GR4AD 1.5)."""

    lambda_ecpm: float = Field(0.5, ge=0, description="lambda_e: weight of the eCPM step.")
    lambda_mtp: float = Field(0.1, ge=0, description="lambda_mtp: weight of the multi-token auxiliary loss.")
    weighting: Literal["A", "B"] = Field("A", description="B also weights the auxiliary loss by w.")
