"""Weights of the losses."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from adbeam.imports.extension_points import LIST_OBJECTIVES
from adbeam.settings import Extensible, Section


class RspoConfig(Section):
    """RSPO (GR4AD eq 16-18). The paper gives no value for any of these."""

    beta: float = Field(0.5, gt=0, description="Scale of the log-probability ratios.")
    delta: float = Field(1.0, description="Gate: with a mean log-ratio of this or more the reference is dropped, nats.")
    rank_source: Literal["reward", "policy"] = Field(
        "reward", description="Ranks in the Lambda weights: by reward (sum below 1) or by the model's own order."
    )
    reward_scaling: Literal["log", "quantile"] = Field(
        "log", description="How rewards are scaled: by logarithm of money, or by their rank among the batch's."
    )
    reward_scale: float = Field(4.0, gt=0, description="Rewards enter 2^v; they are scaled into [0, reward_scale].")
    reward_money: float | None = Field(
        None, gt=0, description="The reward that reaches reward_scale; the largest of each batch when unset."
    )


class UvrConfig(Section):
    """UVR (GR4AD eq 19-22)."""

    base_weight: float = Field(1.0, ge=0, description="w_0.")
    imitate: Literal["all", "above_mean"] = Field(
        "above_mean",
        description="Candidates with a VSL term: all, as printed, or those of a reward above their list's mean (ours: "
        "imitating what exploration drew and nobody would pay for undoes what was learnt).",
    )
    z_max: Literal["batch", "ideal_dcg"] = Field(
        "batch", description="Z_max: the batch's largest (1 + v)^A, or each list's ideal DCG."
    )


class PreferenceConfig(Extensible):
    """What is learnt from candidate lists, in the same steps as VSL from what followed (GR4AD 1.6-1.8)."""

    method: Annotated[str, AfterValidator(LIST_OBJECTIVES.check)] = Field(
        "none", description="none trains on requests alone; all others need work_dir/lists."
    )
    weight: float = Field(
        1.0,
        ge=0,
        description="Of the list loss beside L_VSL of the requests. RSPO's Lambda weights are small: 100 to 1000 "
        "was best on the simulated market, or 1 to 10 with unified and uvr.z_max ideal_dcg.",
    )
    unified: bool = Field(
        False, description="UVR: candidates are imitated or refined by how far the model's order is from the rewards'."
    )
    beta: float = Field(0.5, gt=0, description="Of DPO and S-DPO.")
    clip: float = Field(0.2, gt=0, lt=1, description="Of GRPO's ratio.")
    kl_weight: float = Field(0.04, ge=0, description="Of GRPO's distance to the generating model.")
    sigma: float = Field(1.0, gt=0, description="Of NDCG-Loss2.")

    @model_validator(mode="after")
    def _unified_is_rspo(self) -> Self:
        if self.unified and self.method != "rspo":
            raise ValueError("unified joins VSL and RSPO: set method to rspo")
        return self


class ObjectivesConfig(Section):
    """VSL (GR4AD 1.5), RSPO (1.6) and how one stream joins them (1.7)."""

    lambda_ecpm: float = Field(0.5, ge=0, description="lambda_e: weight of the eCPM step.")
    lambda_mtp: float = Field(0.1, ge=0, description="lambda_mtp: weight of the multi-token auxiliary loss.")
    weighting: Literal["A", "B"] = Field("A", description="B also weights the auxiliary loss by w.")
    rspo: RspoConfig = RspoConfig()
    uvr: UvrConfig = UvrConfig()
    preference: PreferenceConfig = PreferenceConfig()
