"""Settings of offline evaluation."""

from __future__ import annotations

from pydantic import Field

from adbeam.decoding.config import OrderBy
from adbeam.settings import Section


class EvaluationConfig(Section):
    """What `adbeam evaluate` measures."""

    cutoffs: tuple[int, ...] = Field((5, 10), description="K of Recall@K and NDCG@K.")
    max_requests: int | None = Field(None, ge=1, description="Evaluate at most this many requests; all when unset.")
    order_by: OrderBy = Field(
        "log_probability", description="What lists are ordered by; serving has a setting of its own, expected_value."
    )
