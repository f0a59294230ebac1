"""Settings of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from adbeam.imports.extension_points import TRACKERS
from adbeam.settings import Extensible, Section, described_as_before

OWNED_DEEPSPEED_KEYS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "bf16",
    "fp16",
)
"""DeepSpeed keys that other settings of this section set."""


class BehaviorWeights(Section):
    """w_behavior of a target (GR4AD 1.5): how much a deed counts."""

    ad_conversion: float = Field(2.0, ge=0)
    organic_conversion: float = Field(1.0, ge=0, description="A catalogue item the user found without an ad.")
    ad_click: float = Field(1.0, ge=0, description="Counts where clicks are the targets.")
    organic_click: float = Field(0.5, ge=0)


class AnomalyConfig(Section):
    """What happens to a step whose loss or gradient is no number, or whose loss jumps."""

    skip_steps: int = Field(
        0, ge=0, description="So many such steps in a row are left out; the next one ends the run. 0: the first does."
    )
    loss_jump: float | None = Field(
        None, gt=1, description="A loss above this multiple of the median of the last 64 is such a step."
    )


class TrackingConfig(Extensible):
    """Where the driver reports a run beside its folder and TensorBoard."""

    experiment: str = Field("adbeam", min_length=1, description="Experiment or group that the runs belong to.")
    mlflow_uri: str | None = Field(None, description="MLflow server or folder; needs the package mlflow.")
    wandb_project: str | None = Field(None, description="Weights & Biases project; needs the package wandb.")
    trackers: tuple[Annotated[str, AfterValidator(TRACKERS.check)], ...] = Field(
        (), description="More places for a run's numbers, by name: parts of other packages."
    )

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return described_as_before(plain(self), "options", "trackers")


class RailsConfig(Section):
    """Bounds whose crossing stops a run that learns from lists; what was published before stays in force."""

    max_kl_nats: float = Field(3.0, gt=0, description="Of the reference's order of a list against the model's.")
    min_entropy_share: float = Field(0.05, ge=0, le=1, description="Entropy of the first level over log V.")
    max_invalid_share: float = Field(
        0.995, ge=0, le=1, description="Of SIDs drawn freely that no item has; a young model draws many."
    )
    max_collapsed_share: float = Field(0.9, ge=0, le=1, description="Of SIDs drawn freely that were drawn before.")
    patience_checks: int = Field(2, ge=1, description="Checks in a row beyond a bound that stop the run.")
    interval_steps: int = Field(20, ge=1, description="Steps between two checks.")
    probe_requests: int = Field(64, ge=2, description="Contexts that SIDs are drawn for at each check.")


class EarlyStopConfig(Section):
    """Judging on validation requests while a run goes on: NDCG@10 of the lists that the beam search finds."""

    interval_steps: int | None = Field(None, ge=1, description="Steps between two checks; unset: none, to the end.")
    patience_checks: int = Field(10, ge=1, description="Checks in a row without a better one that end the run.")
    requests: int = Field(4000, ge=1, description="Requests judged, the same ones at every check.")
    beam_width: int = Field(64, ge=10, description="Beams of every level.")


class TrainingConfig(Section):
    """Ray Train and DeepSpeed."""

    batch_requests: int = Field(128, ge=1, description="Requests in one global optimiser step.")
    batch_lists: int = Field(32, ge=1, description="Lists in one step, where objectives.preference learns from them.")
    targets_per_request: int = Field(8, ge=1, description="M: at most this many items of one request are targets.")
    target_action: Literal["auto", "conversion", "click"] = Field(
        "auto",
        description="What makes an item a target; auto: conversions, or clicks where the training split has none.",
    )
    behavior_weights: BehaviorWeights = BehaviorWeights()
    user_value_weights: bool = Field(True, description="w_user: long-term ad value of the user, in [0.5, 2].")

    start_from: Path | None = Field(
        None, description="A model.safetensors whose weights a fresh run begins with, in place of random ones."
    )
    epochs: int = Field(10, ge=1)
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimiser steps.")
    time_budget_seconds: float | None = Field(None, gt=0, description="Stop after this long, schedule included.")
    learning_rate: float = Field(2e-3, gt=0)
    table_learning_rate_multiple: float = Field(
        1.0, gt=0, description="Code and feature tables learn at this many times learning_rate."
    )
    warmup_steps: int = Field(50, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final_learning_rate_share: float = Field(0.02, ge=0, le=1, description="Of learning_rate, at the last step.")
    weight_decay: float = Field(0.05, ge=0, description="On matrices; not on biases, norms and embedding tables.")
    gradient_clipping: float = Field(1.0, ge=0, description="Largest gradient norm; 0 switches clipping off.")
    gradient_accumulation: int = Field(1, ge=1, description="Passes a worker splits its part of the batch into.")

    prefixes: bool = Field(
        False,
        description="Learn from all prefixes of a user in one pass: a row of a batch is a user, and batch_requests "
        "counts users; for logs of items in order. Needs model.order_only.",
    )
    average_decay: float | None = Field(
        None, gt=0, lt=1, description="Publish a running mean of the weights with this decay a step; unset: the last."
    )
    early_stop: EarlyStopConfig = EarlyStopConfig()

    anomaly: AnomalyConfig = AnomalyConfig()

    workers: int | tuple[int, int] = Field(2, description="A number, a range [least, most], or 0: in this process.")
    threads_per_worker: int = Field(1, ge=1)
    cpus_per_worker: float = Field(1.0, gt=0)
    use_gpu: bool = Field(False, description="One GPU a worker, NCCL and fused kernels.")
    dtype: Literal["fp32", "bf16"] = "fp32"
    zero_stage: Literal[0, 1, 2, 3] = 1
    offload_optimizer: bool = Field(False, description="Optimiser state in host memory (ZeRO 1 to 3).")
    offload_parameters: bool = Field(False, description="Weights in host memory too (ZeRO 3).")
    activation_checkpointing: bool = Field(
        False, description="Compute a layer's activations again in the backward pass instead of keeping them."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of every worker, for example those of NCCL."
    )
    deepspeed_file: Path | None = Field(None, description="DeepSpeed JSON, merged below `deepspeed`.")
    deepspeed: dict[str, Any] = Field(default_factory=dict, description="Merged into DeepSpeed's own configuration.")

    lanes: int = Field(8, ge=1, description="Parts of the data that fill a batch evenly; at most this many workers.")
    shuffle_steps: int = Field(256, ge=1, description="Steps of data shuffled (and held in memory) together.")
    length_buckets: bool = Field(
        True, description="Requests of like size share a step, so that little of a batch is padding."
    )
    ingest_cpus: float = Field(0.25, ge=0, description="CPUs that Ray reserves for one data task.")

    checkpoint_interval_steps: int = Field(200, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    report_interval_steps: int = Field(20, ge=1)
    tracking: TrackingConfig = TrackingConfig()
    max_failures: int = Field(2, ge=0, description="Lost worker groups that a run survives.")
    restart_timeout_seconds: float = Field(60, gt=0, description="Wait this long for workers before taking fewer.")

    rails: RailsConfig = RailsConfig()

    ladder_requests: int = Field(128, ge=0, description="Validation requests that export measures each rung on.")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        least, most = self.worker_range
        if least > most or least < 0 or (least == 0 and most > 0):
            raise ValueError("workers must be a number >= 0 or a range [least, most] with 1 <= least <= most")
        if most > self.lanes:
            raise ValueError(f"lanes ({self.lanes}) must be at least the number of workers ({most})")
        if self.batch_requests % self.lanes:
            raise ValueError(f"batch_requests ({self.batch_requests}) must divide by lanes ({self.lanes})")
        if self.batch_requests // self.lanes < self.gradient_accumulation:
            raise ValueError("a lane's part of the batch must be at least gradient_accumulation requests")
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3")
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError("offload_parameters needs zero_stage 3")
        if self.zero_stage == 3 and (self.average_decay is not None or self.early_stop.interval_steps is not None):
            raise ValueError(
                "average_decay and early_stop need zero_stage 0, 1 or 2: workers of stage 3 hold no whole weight"
            )
        taken = [key for key in OWNED_DEEPSPEED_KEYS if key in self.deepspeed]
        if taken:
            raise ValueError(f"deepspeed.{taken[0]} is set by the settings beside it; remove it there")
        return self

    def unused(self) -> set[str]:
        """Settings that a run without them does not mention, so that it keeps the name it had before they were."""
        new = ("prefixes", "average_decay", "early_stop")
        return {name for name in new if getattr(self, name) == type(self).model_fields[name].default}

    @property
    def worker_range(self) -> tuple[int, int]:
        """(least, most) workers."""
        return self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)

    @property
    def local(self) -> bool:
        """Whether everything runs in this process, without a cluster."""
        return self.worker_range[1] == 0
