"""Settings of offline evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adbeam.decoding.config import OrderBy
from adbeam.settings import Section
from adbeam.tokens.config import NeighboursConfig

BaselineName = Literal[
    "popularity", "own_frequency", "last_category", "neighbours", "sequential_rules", "user_knn", "ease"
]


class NeighbourBaselineConfig(NeighboursConfig):
    """Baseline `neighbours`: directed item neighbours, and how a user's events vote with them."""

    history_events: int = Field(10, ge=1, description="Newest events of a user that vote.")
    age_decay: float = Field(
        0.6, gt=0, le=1, description="An event counts by this to the power of the requests that came after its own."
    )


class UserKnnConfig(Section):
    """Baseline `user_knn`: TIFU-KNN (Hu et al. 2020)."""

    neighbours: int = Field(300, ge=1, description="Users nearest to the one asked for.")
    own_share: float = Field(
        0.7, ge=0, le=1, description="Of the user's own items in the score; his neighbours' is the rest."
    )
    group_baskets: int = Field(7, ge=1, description="Requests of a group, counted from the newest.")
    basket_decay: float = Field(0.9, gt=0, le=1, description="Of a request inside its group, for each newer one.")
    group_decay: float = Field(0.7, gt=0, le=1, description="Of a group, for each newer one.")
    users: int = Field(100_000, ge=1, description="Training users that may be neighbours; of more, so many are drawn.")


class EaseConfig(Section):
    """Baseline `ease` (Steck 2019)."""

    penalty: float = Field(250.0, gt=0, description="lambda, added to the diagonal of the Gram matrix.")
    items: int = Field(10_000, ge=1, description="Most frequent items of the model; it takes 4 bytes a pair of them.")


class EvaluationConfig(Section):
    """What `adbeam evaluate` measures."""

    cutoffs: tuple[int, ...] = Field((5, 10), description="K of Recall@K and NDCG@K.")
    max_requests: int | None = Field(None, ge=1, description="Evaluate at most this many requests; all when unset.")
    order_by: OrderBy = Field(
        "log_probability", description="What lists are ordered by; serving has a setting of its own, expected_value."
    )
    baselines: tuple[BaselineName, ...] = Field(
        ("popularity", "own_frequency", "last_category"),
        description="Rankings beside the model's. The last four are counted on training events before judging begins.",
    )
    model_parts: bool = Field(
        False, description="Judge a model's priors without the network, and its network without the priors, beside it."
    )
    baseline_workers: int = Field(0, ge=0, description="Ray actors that count neighbours; 0: the job itself does.")
    neighbours: NeighbourBaselineConfig = NeighbourBaselineConfig()
    user_knn: UserKnnConfig = UserKnnConfig()
    ease: EaseConfig = EaseConfig()
