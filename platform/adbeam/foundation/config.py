"""Settings of the foundation and of how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from adbeam.settings import Section
from adbeam.training.config import TrainingConfig

Adapter = Literal["linear", "concat", "gate", "mlp"]


class TransferConfig(Section):
    """Which representations a model is told, and how they enter it."""

    adapter: Adapter = Field(
        "gate",
        description="linear, mlp: one more field; concat: beside the top's inputs; gate: multiplies all fields.",
    )
    sources: tuple[Literal["user", "item", "content"], ...] = Field(
        ("user",), min_length=1, description="user: CR(u); item: CR(i); content: IR, which cold ads have as well."
    )
    point: Literal["as_of", "snapshot"] = Field(
        "as_of", description="as_of: what was known strictly before a row; snapshot: the last state, which leaks."
    )


class RepresentConfig(Section):
    """How cross representations of events become those of users and items."""

    layer: int | None = Field(
        None, ge=0, description="k of CR_k; unset: the last hidden layer of the ad branch, as the paper advises."
    )
    decay: Literal["time", "event"] = Field(
        "time", description="time: by the time since an event, as in the paper; event: by events, as in its code."
    )
    half_life_hours: float = Field(168.0, gt=0, description="An event weighs half after this long.")
    event_share: float = Field(
        0.99, gt=0, le=1, description="Each event leaves this share of the weight of those before (decay: event)."
    )
    actions: Literal["shown", "clicked", "converted"] = Field(
        "shown", description="Which events of ads enter; the paper's code takes everything that was shown."
    )
    workers: int = Field(1, ge=0, description="0: in this process; else Ray Data, a task a shard of users.")


TRAINING = {"batch_requests": 512, "epochs": 2, "learning_rate": 3e-3, "workers": 1, "zero_stage": 0}
"""Where these differ from the defaults of the section `training`."""


class FoundationConfig(Section):
    """The foundation model: towers of users and items, a mix tower with a content and an ad branch."""

    towers: Literal["none", "mlp"] = Field(
        "mlp", description="mlp: UR and IR come out of towers, as in the paper; none: raw embeddings, as in its code."
    )
    embedding_width: int = Field(8, ge=2, description="Width of each field's embedding.")
    tower_width: int = Field(32, ge=2, description="Width of UR and IR, where there are towers.")
    tower_hidden: tuple[int, ...] = Field((64,), description="Widths of a tower's hidden layers.")
    cross_layers: int = Field(3, ge=0, description="Cross layers (DCN v2) of the mix tower, shared by both branches.")
    branch_layers: int = Field(2, ge=1, description="Hidden layers of each branch of the mix tower.")
    user_buckets: int = Field(4096, ge=2, description="Hash buckets of the user id.")
    item_buckets: int = Field(32768, ge=16, description="Hash buckets of the item id.")
    attribute_buckets: int = Field(4096, ge=16, description="Hash buckets of category, brand and advertiser, each.")
    history_length: int = Field(16, ge=1, description="Past events whose categories the user tower reads.")
    unknown_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Training rows whose user id, and whose item id, is hidden: so users and ads never seen have a "
        "representation from the rest of their fields.",
    )
    organic_negatives: int = Field(4, ge=0, description="Items drawn as not chosen for each organic event.")
    weight_column: str | None = Field(
        "exposure_weight", description="Column of the log with 1 / (probability that an exposure was sampled)."
    )
    reported_rows: int = Field(200_000, ge=1, description="At most this many rows of a split are judged.")
    training: TrainingConfig = Field(
        TrainingConfig.model_validate(TRAINING),
        description="As the section training; a request is a row here.",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, values: Any) -> Any:
        given = values.get("training") if isinstance(values, Mapping) else None
        return {**values, "training": {**TRAINING, **given}} if isinstance(given, Mapping) else values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.training.prefixes or self.training.early_stop.interval_steps is not None:
            raise ValueError("training.prefixes and training.early_stop are not for the foundation; leave them out")
        return self

    @property
    def layers(self) -> int:
        """Number of the last layer whose cross representation can be taken: CR_0 is the input of the mix tower."""
        return self.cross_layers + self.branch_layers
