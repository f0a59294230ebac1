"""Settings of the online loop."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from adbeam.settings import Section


class GateConfig(Section):
    """What a new model must show on requests that it was not trained on, before it is published."""

    holdout_percent: int = Field(20, ge=1, le=90, description="Requests kept from training, by a hash of their id.")
    min_requests: int = Field(50, ge=2, description="Below this many held-out requests nothing is published.")
    max_requests: int = Field(2000, ge=2, description="Newest held-out requests that are judged, of some rounds.")
    rounds: int = Field(5, ge=1, description="Rounds whose held-out requests are judged together.")
    confidence: float = Field(0.9, gt=0.5, lt=1, description="One-sided, of both bounds.")
    likelihood_margin: float = Field(
        0.0, ge=0, description="The bound of the value-weighted log-likelihood may fall by this much, nats."
    )
    ndcg_margin_share: float = Field(
        0.1, ge=0,
        description="The bound of value-weighted NDCG may fall by this share of what the model in force has: rankings "
        "are noisier. What published rounds before it have lost counts.",
    )  # fmt: skip
    cutoff: int = Field(10, ge=1, description="K of value-weighted NDCG@K.")


class OnlineConfig(Section):
    """From request and event logs to the next bundle, a round at a time."""

    events: Path | None = Field(None, description="Folder of the event log; default work_dir/serving/events.")
    requests: Path | None = Field(None, description="Folder of the request log; default work_dir/serving/requests.")
    key_env: str = Field("ADBEAM_USER_KEY", description="Secret of the HMAC that replaces user ids in both logs.")
    shards: int = Field(4, ge=1, description="Parts of the state by user, each joined by a task of its own.")
    workers: int = Field(1, ge=0, description="Ray Data tasks that join at a time; 0 joins in this process.")
    attribution_hours: float = Field(168.0, gt=0, description="Feedback counts this long after its request.")
    skew_seconds: float = Field(300.0, ge=0, description="Feedback may be stamped this long before its request.")
    min_samples: int = Field(64, ge=1, description="A round with fewer new samples trains nothing; they wait.")
    passes: int = Field(2, ge=1, description="Times a round's new samples are trained on.")
    replay_share: float = Field(0.5, ge=0, lt=1, description="Of a batch, rows of the first training's log.")
    lists_per_round: int = Field(512, ge=0, description="Requests of a round that candidate lists are made for.")
    learning_rate_share: float = Field(0.2, gt=0, description="Of training.learning_rate, held constant.")
    bucket_window: int = Field(50_000, ge=100, description="Newest values that the eCPM buckets divide evenly.")
    keep_rounds: int = Field(20, ge=1, description="Folders of older rounds are removed; the ledger keeps counts.")
    gate: GateConfig = GateConfig()
