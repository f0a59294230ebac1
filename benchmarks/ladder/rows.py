"""The rows of the ladder: what each is trained with, what it goes on from, and how its lists are ordered.

Every row is trained in two legs: `steps` from nothing, and `more_steps` from there. Rows that learn from lists part
from VSL at the second, on lists that the VSL model of the first generated. Targets are clicks: VSL differs from NTP by
the users' weights, the value step and the loss of MTP. RSPO's Lambda weights sum to less than 1 and are a hundredth of
that for neighbours in rank, so its weight is large; UVR takes each list's ideal DCG for Z_max, which cancels the Z
inside them. Weights and orders are those that were best on the two markets of `benchmarks.ladder_tune`; of nearly equal
ones the smaller weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adbeam.decoding.config import OrderBy

FULL, BY_LEVEL = (64, 64, 64), (16, 32, 64)
ORDERS: tuple[OrderBy, ...] = ("expected_value", "log_probability")
NTP = {"objectives.lambda_ecpm": 0.0, "objectives.lambda_mtp": 0.0, "training.user_value_weights": False,
       "training.behavior_weights": {"ad_conversion": 1.0, "ad_click": 1.0}}  # fmt: skip
BASE: dict[str, Any] = {
    "model.width": 64, "model.layers": 6, "model.lazy_layers": 0, "model.heads": 4, "model.context_kv_groups": 2,
    "model.codebooks": (64, 32, 64), "model.ecpm_buckets": 16, "model.short_length": 24, "model.long_length": 8,
    "model.item_buckets": 4096, "model.prefix_buckets": 2048, "decoding.widths": FULL,
    "training.batch_requests": 64, "training.batch_lists": 32, "training.workers": 0, "training.warmup_steps": 30,
    "training.learning_rate": 0.003, "training.target_action": "click", "training.schedule": "linear",
    "training.final_learning_rate_share": 0.1, "rewards.workers": 0, "rewards.user_buckets": 1,
    "rewards.epochs": 4, "lists.workers": 0, "lists.max_requests": 2000, "lists.requests_per_user": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the ladder. `goes_on` names the row whose model it continues; `uses` whose model it is."""

    name: str
    unified_sids: bool = True
    settings: tuple[tuple[str, Any], ...] = ()
    goes_on: str | None = None
    uses: str | None = None
    widths: tuple[int, ...] = FULL
    order_by: OrderBy = "expected_value"
    shown: bool = True

    @property
    def source(self) -> Row:
        """The row whose model this one answers with."""
        return self if self.uses is None else named(self.uses)


def _row(name: str, settings: dict[str, Any], **rest: Any) -> Row:
    return Row(name, settings=tuple(settings.items()), **rest)


def preference(method: str, **rest: Any) -> dict[str, Any]:
    """Settings of a method that learns from lists."""
    return {"objectives.preference": {"method": method, **rest}}


LAZY, MTP = {"model.lazy_layers": 4}, {"model.decoder": "mtp"}
UVR = {**preference("rspo", unified=True, weight=9.0), "objectives.uvr": {"z_max": "ideal_dcg"}}
ROWS: tuple[Row, ...] = (
    _row("gr_start", NTP, unified_sids=False, shown=False),
    _row("gr_base", NTP, unified_sids=False, order_by="log_probability", goes_on="gr_start"),
    _row("ua_start", NTP, shown=False),
    _row("ua_sid", NTP, order_by="log_probability", goes_on="ua_start"),
    _row("vsl_start", {}, shown=False),
    _row("vsl", {}, goes_on="vsl_start"),
    _row("vsl_dpo", preference("dpo"), goes_on="vsl_start"),
    _row("vsl_grpo", preference("grpo", weight=100.0), goes_on="vsl_start"),
    _row("vsl_sdpo", preference("sdpo", weight=0.3), goes_on="vsl_start"),
    _row("vsl_ndcg_loss2", preference("ndcg_loss2", weight=30.0), goes_on="vsl_start", order_by="log_probability"),
    _row("vsl_rspo", preference("rspo", weight=1000.0), goes_on="vsl_start"),
    _row("uvr", UVR, goes_on="vsl_start"),
    _row("uvr_dbs", {}, uses="uvr", widths=BY_LEVEL),
    _row("mtp_start", MTP, shown=False),
    _row("uvr_dbs_mtp", {**MTP, **UVR}, goes_on="mtp_start", widths=BY_LEVEL),
    _row("lazyar_start", LAZY, shown=False),
    _row("uvr_dbs_lazyar", {**LAZY, **UVR}, goes_on="lazyar_start", widths=BY_LEVEL),
)


def named(name: str) -> Row:
    """The row called `name`."""
    return next(row for row in ROWS if row.name == name)
