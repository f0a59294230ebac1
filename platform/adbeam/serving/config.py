"""Settings of the serving application: the `args:` of a Serve config file, typed and strict.

Paths are relative to the folder the server was started in. Nothing below reads the environment or YAML again, except
for secrets, which are named here by environment variable or file and never written into YAML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from adbeam.budgets.config import BudgetsConfig
from adbeam.catalogue.config import UpdatesConfig
from adbeam.consent.config import PrivacyConfig
from adbeam.errors import nearest_name
from adbeam.imports.extension_points import HISTORY_STORES
from adbeam.list_rules.config import CapsUnread, FrequencyCaps, ListRulesConfig
from adbeam.records import MOST_MONEY
from adbeam.serving.openrtb.config import OpenRtbConfig
from adbeam.settings import Extensible, Section
from adbeam.targeting.features import FeatureConfig, FeaturesSection, told_by_requests


class DeadlineConfig(Section):
    """The deadlines a client may ask for; the default and the margin belong to the beam policy."""

    min_ms: float = Field(10.0, gt=0)
    max_ms: float = Field(5000.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_ms > self.max_ms:
            raise ValueError("min_ms must not exceed max_ms")
        return self


class AdmissionConfig(Section):
    """The last bound: what a replica holds at once. The decode queue has its own in the beam policy (max_queue)."""

    max_in_flight: int = Field(2048, ge=1, description="Requests inside the replica; one more gets 503.")
    retry_after_seconds: int = Field(1, ge=1, description="Sent with every 503 and 429.")


class CacheConfig(Section):
    """Answers kept for requests that would otherwise be late."""

    enabled: bool = True
    ttl_seconds: float = Field(30.0, gt=0)
    max_entries: int = Field(10_000, ge=1)
    answer_repeats: bool = Field(False, description="Answer a repeated request from the cache even when there is time.")


class FallbackConfig(Section):
    """Popular ads for requests that cannot be decoded in time; size 0 sends 503 instead."""

    size: int = Field(200, ge=0, description="Popular ads kept ready.")


class AuthConfig(Section):
    """Who may call /v1/*. Keys come from a file (one a line) or an environment variable (comma-separated)."""

    mode: Literal["none", "api_key", "bearer"] = "none"
    header: str = Field("X-API-Key", min_length=1, description="Header of mode api_key.")
    keys_env: str = "ADBEAM_API_KEYS"
    keys_file: Path | None = None


class AdminConfig(Section):
    """Who may change ads through POST /v1/admin/ads. Keys come from a file (one a line) or an environment variable."""

    mode: Literal["none", "bearer"] = Field("none", description="none: the route refuses everybody.")
    keys_env: str = "ADBEAM_ADMIN_KEYS"
    keys_file: Path | None = None
    changes_max: int = Field(1000, ge=1, description="Changes in one request.")


class FollowConfig(UpdatesConfig):
    """The update log of ads that every replica follows; without one the ads are those of the bundle."""

    poll_ms: float = Field(100.0, gt=0, le=200, description="How often a replica looks for new updates.")


class LimitsConfig(Section):
    """What one request, and one second, may hold."""

    body_bytes: int = Field(1 << 20, ge=1024)
    count_max: int = Field(100, ge=1, description="Ads in one answer.")
    history_max: int = Field(2000, ge=1, description="Events of an inline history.")
    filter_max: int = Field(1000, ge=1, description="Values in one filter list.")
    events_max: int = Field(1000, ge=1, description="Events in one POST /v1/events.")
    users_max: int = Field(1000, ge=1, description="Users in one POST /v1/users.")
    impressions_max: int = Field(20, ge=1, description="Impressions of one OpenRTB bid request.")
    requests_per_second: float | None = Field(
        None, gt=0, description="Limit of each key (or of all, without keys) in each replica."
    )
    burst_requests: int = Field(200, ge=1, description="Requests a key may send at once under requests_per_second.")


class RedisStoreConfig(Section):
    """Redis servers for the histories of a fleet; they should never evict (maxmemory-policy noeviction)."""

    urls: tuple[str, ...] = Field(
        (),
        description="redis://host:6379/0 or rediss://..., one a shard: users are spread by a hash of their id, so "
        "the number and order must stay as they are while the data lives.",
    )
    password_env: str = "ADBEAM_REDIS_PASSWORD"
    key_prefix: str = Field("adbeam", min_length=1, description="First part of every key.")
    read_timeout_ms: float = Field(
        50.0, gt=0, description="A read stands in the way of a batch; then users count as unknown."
    )
    write_timeout_ms: float = Field(5000.0, gt=0)
    event_id_seconds: int = Field(3600, ge=1, description="How long an event id is remembered to drop repeats.")


class StoreConfig(Extensible):
    """The history store: one SQLite file a node, or Redis for many nodes."""

    backend: Annotated[str, AfterValidator(HISTORY_STORES.check)] = Field("sqlite", description="Where histories are.")
    path: Path = Field(Path("runs/serving/histories.sqlite"), description="The file of backend sqlite.")
    redis: RedisStoreConfig = RedisStoreConfig()
    prepared: Path | None = Field(None, description="Prepared logs loaded into the store when it is first opened.")
    max_events: int = Field(1024, ge=1, description="Newest events kept for a user.")
    max_event_ids: int = Field(5_000_000, ge=1000, description="Event ids remembered by backend sqlite.")
    profile_days: float = Field(
        90.0, gt=0, le=3650, description="How long a profile is kept after it was last posted (docs/targeting.md)."
    )
    profile_bytes: int = Field(4096, ge=2, le=1 << 16, description="Most bytes of one profile, as JSON.")


class EventLogConfig(Section):
    """Where accepted events are kept for training; no folder, no log."""

    folder: Path | None = None
    rotate_seconds: float = Field(60.0, gt=0)
    rotate_rows: int = Field(20_000, ge=1)
    max_files: int = Field(
        1000, ge=1, description="Of the files that the online loop has read, the oldest beyond this are removed."
    )
    max_bytes: int = Field(
        10 << 30, ge=1 << 20, description="Of all files of the folder; beyond it the oldest go, read or not."
    )
    ledger: Path | None = Field(
        None, description="The online loop's ledger, which says what is read: WORK_DIR/online/ledger.sqlite."
    )
    key_env: str = Field("ADBEAM_USER_KEY", description="Secret of the HMAC that replaces user ids.")


class RequestLogConfig(EventLogConfig):
    """Where answered requests are kept for training, under the event log's user key; no folder, no log."""


class ReturnedMoneyConfig(Section):
    """Expected money of answers against what posted events say they brought, as metrics."""

    window_hours: float = Field(24.0, gt=0, le=720, description="How long conversions count for their answer.")
    answers_max: int = Field(
        20_000, ge=0, description="Answers that a replica remembers, a share of them where more come; 0: no metrics."
    )


class EngineConfig(Section):
    """How a replica decodes."""

    decoder: str | None = Field(
        None, description="Serve bundles of this model.decoder only; default: whatever the bundle holds."
    )
    device: str = Field("cpu", description="cpu or cuda.")
    precision: Literal["float32", "bfloat16", "int8", "auto"] = Field(
        "float32", description="auto: the fastest that loses no money on this processor (docs/decoding.md)."
    )
    compiled: bool = Field(False, description="torch.compile the decoder's layers; costs a minute at start.")
    cuda_graphs: bool = Field(
        False, description="Record what the GPU computes when a model is loaded and replay it; needs device cuda."
    )
    threads: int = Field(1, ge=1, description="Threads that share the requests of a batch; 1 on a GPU.")
    own_process: bool = Field(
        True, description="Decode in a child process: the event loop and the decoder do not share an interpreter lock."
    )
    widths: tuple[int, ...] | None = Field(
        None, description="Full beam widths; default: those the bundle was made for."
    )
    order_by: Literal["log_probability", "expected_ecpm", "expected_value"] = "expected_value"
    ecpm_scale: float | None = Field(
        None,
        gt=0,
        le=MOST_MONEY,
        description="Money of a thousand impressions for one unit of the model's money of a target (1000 x targets per "
        "impression), for bundles of logs without impressions; without it nothing is bid from those (docs/money.md).",
    )
    calibration_seconds: float = Field(2.0, gt=0, description="Time for timed decodes when a model is loaded.")
    stuck_seconds: float = Field(20.0, gt=0, description="A decode that takes longer fails the health check.")

    @model_validator(mode="after")
    def _graphs_on_a_gpu(self) -> Self:
        if self.cuda_graphs and not self.device.startswith("cuda"):
            raise ValueError(f"cuda_graphs needs device cuda, not {self.device}")
        return self


class ServingConfig(Section):
    """Everything one application reads."""

    bundle: Path = Field(Path("runs/default/bundles"), description="A bundle, or the folder whose CURRENT names it.")
    watch_seconds: float = Field(2.0, ge=0, description="How often CURRENT is looked at; 0 never.")
    policy: str | dict[str, Any] = Field(
        "deadline", description="Beam policy: a name, a YAML file, or the mapping itself."
    )
    features: FeaturesSection = Field(default={})
    list_rules: ListRulesConfig = ListRulesConfig()
    frequency_caps: FrequencyCaps = ()
    frequency_caps_unread: CapsUnread = "show"
    budgets: BudgetsConfig = BudgetsConfig()
    deadline: DeadlineConfig = DeadlineConfig()
    admission: AdmissionConfig = AdmissionConfig()
    cache: CacheConfig = CacheConfig()
    fallback: FallbackConfig = FallbackConfig()
    auth: AuthConfig = AuthConfig()
    admin: AdminConfig = AdminConfig()
    limits: LimitsConfig = LimitsConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    openrtb: OpenRtbConfig = OpenRtbConfig()
    store: StoreConfig = StoreConfig()
    event_log: EventLogConfig = EventLogConfig()
    request_log: RequestLogConfig = RequestLogConfig()
    returned_money: ReturnedMoneyConfig = ReturnedMoneyConfig()
    updates: FollowConfig = FollowConfig()
    engine: EngineConfig = EngineConfig()

    @field_validator("features")
    @classmethod
    def _without_those_of_items(cls, features: dict[str, FeatureConfig]) -> dict[str, FeatureConfig]:
        """A replica reads them in the bundle, and no request tells them."""
        return told_by_requests(features)

    @model_validator(mode="after")
    def _places_of_declared_features(self) -> Self:
        for name in self.openrtb.features:
            if name not in self.features:
                near = nearest_name(name, [*self.features]) if self.features else None
                hint = f"did you mean {near!r}, or " if near else ""
                raise ValueError(
                    f"openrtb.features.{name} is the place of no declared feature: {hint}declare it under `features`"
                )
        return self

    @property
    def withheld(self) -> frozenset[str]:
        """Kinds of caps whose ads are withheld where a history cannot be read."""
        return frozenset(cap.of for cap in self.frequency_caps if self.frequency_caps_unread == "withhold")

    @classmethod
    def resolve(cls, args: dict[str, Any], base: Path | None = None) -> Self:
        """Parse `args` and make every path absolute against `base` (the current folder)."""
        config = cls.parse(args, source="args")
        base = (base or Path.cwd()).resolve()
        absolute = _absolute(config.model_dump(), base)
        return cls.parse(absolute, source="args")


class ReplicaOptions(Section):
    """`user_config`: what may change without a restart. Null keeps what the application was built with."""

    policy: str | dict[str, Any] | None = None
    bundle: Path | None = None


def _absolute(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return base / value.expanduser()
    if isinstance(value, dict):
        return {key: _absolute(inner, base) for key, inner in value.items()}
    return value
