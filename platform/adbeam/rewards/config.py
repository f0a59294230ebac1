"""Settings of the reward system."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from adbeam.foundation.config import TransferConfig
from adbeam.settings import Section, described_as_before


class RewardConfig(Section):
    """The reward model: pCTR and pCVR of an exposure, and so its eCPM."""

    embedding_width: int = Field(8, ge=2, description="Width of each feature's embedding.")
    hidden: tuple[int, ...] = Field((64, 32), min_length=1, description="Widths of the hidden layers.")
    user_buckets: int = Field(4096, ge=1, description="Hash buckets of the user id; 1 leaves the user id out.")
    item_buckets: int = Field(32768, ge=16, description="Hash buckets of the item id.")
    attribute_buckets: int = Field(4096, ge=16, description="Hash buckets of category, brand and advertiser, each.")
    epochs: int = Field(2, ge=1)
    batch_exposures: int = Field(512, ge=1, description="Exposures in one step of one worker.")
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    weight_column: str | None = Field(
        "exposure_weight",
        description="Column of the log with 1 / (probability that the exposure was sampled); calibration uses it.",
    )
    workers: int = Field(1, ge=0, description="Workers of the Ray Train job; 0 trains in this process.")
    reported_exposures: int = Field(200_000, ge=1, description="At most this many exposures of a split are judged.")
    representation: TransferConfig | None = Field(
        None, description="Representations of the foundation that the model is told; unset: none (docs/lfm4ads.md)."
    )

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return described_as_before(plain(self), "representation")


class ListsConfig(Section):
    """Candidate lists: a wider beam than serving's, plus exploration, judged by the reward model."""

    candidates: int = Field(16, ge=2, description="n: candidates of one list.")
    width_multiple: float = Field(2.0, ge=1, description="Beams of every level against decoding.widths.")
    explored_share: float = Field(
        0.25, ge=0, le=1, description="Candidates drawn from below the top of the beam, by probability (Gumbel top-k)."
    )
    random_share: float = Field(0.125, ge=0, le=1, description="Candidates drawn evenly from the live ads.")
    temperature: float = Field(1.0, gt=0, description="Of the draw below the top; higher is more even.")
    exposed: bool = Field(True, description="Ads that followed in the log join the list, without a log-probability.")
    requests_per_user: int = Field(
        8, ge=1, description="At most this many of a user's training requests, newest first."
    )
    max_requests: int | None = Field(None, ge=1, description="At most this many lists, spread over the shards.")
    batch_requests: int = Field(16, ge=1, description="Requests decoded together.")
    workers: int = Field(1, ge=0, description="Ray Data actors that decode; 0 decodes in this process.")
