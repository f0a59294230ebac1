"""Weights of the losses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adbeam.settings import Section


class RspoConfig(Section):
    """RSPO (GR4AD eq 16-18). The paper gives no value for any of these."""

    beta: float = Field(0.5, gt=0, description="Scale of the log-probability ratios.")
    delta: float = Field(1.0, description="Gate: with a mean log-ratio of this or more the reference is dropped, nats.")
    rank_source: Literal["reward", "policy"] = Field(
        "reward", description="Ranks in the Lambda weights: by reward (sum below 1) or by the model's own order."
    )
    reward_scale: float = Field(4.0, gt=0, description="Rewards enter 2^v; they are scaled into [0, reward_scale].")
    reward_money: float | None = Field(
        None, gt=0, description="The reward that reaches reward_scale; the largest of each batch when unset."
    )


class UvrConfig(Section):
    """UVR (GR4AD eq 19-22)."""

    base_weight: float = Field(1.0, ge=0, description="w_0.")
    z_max: Literal["batch", "ideal_dcg"] = Field(
        "batch", description="Z_max: the batch's largest (1 + v)^A, or each list's ideal DCG."
    )


class ObjectivesConfig(Section):
    """VSL (GR4AD 1.5), RSPO (1.6) and how one stream joins them (1.7)."""

    lambda_ecpm: float = Field(0.5, ge=0, description="lambda_e: weight of the eCPM step.")
    lambda_mtp: float = Field(0.1, ge=0, description="lambda_mtp: weight of the multi-token auxiliary loss.")
    weighting: Literal["A", "B"] = Field("A", description="B also weights the auxiliary loss by w.")
    rspo: RspoConfig = RspoConfig()
    uvr: UvrConfig = UvrConfig()
