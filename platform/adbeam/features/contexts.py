"""From histories and moments to the contexts a model reads: one function for training, evaluation and serving.

Token 0 is the static token, then the newest `short_length` events oldest first, then the `long_length` most frequent
items of the whole history, most frequent first. Events at or after the moment are not looked at, nor are impressions.

Shapes: B requests, S context length, T SID levels, F static features, C features, N trending ads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from adbeam.declared.encoder import Codes
from adbeam.features.buckets import no_trending, static_features
from adbeam.features.history import History
from adbeam.features.spec import FeatureSpec
from adbeam.features.tokens import OF_ORDER, HistoryTokens

if TYPE_CHECKING:
    from adbeam.features.batch import ContextBatch

Trending = tuple[np.ndarray, np.ndarray]
"""(codes int32 [N, T], features uint8 [N, C]) of the ads that convert most lately, as `encode_trending` gives them."""


class Trends(Protocol):
    """What knows which ads convert lately: a log's table, or the counts of a replica's history store."""

    def at(self, now_ms: int) -> Trending:
        """What was trending at a moment."""


@dataclass(frozen=True)
class Moment:
    """When and where a request was made, and by whom; None is an unknown user."""

    now_ms: int
    scene: str
    user_id: str | None
    told: Codes = ()
    """Codes of the declared features (declared/encoder.py); empty where the model is told none."""


@dataclass(frozen=True)
class Contexts:
    """Contexts in small types, as shards and batches carry them."""

    static_BF: np.ndarray
    """int32."""
    code_BST: np.ndarray
    """int32, -1 where there is no token. Token 0 carries the static features and has no code."""
    feature_BSC: np.ndarray
    """uint8, or int32 where a declared feature of items has more codes than that."""
    trend_code_BNT: np.ndarray | None = None
    """int32, codes of trending ads, -1 where there is none; None where the model knows no trends."""
    trend_feature_BNC: np.ndarray | None = None
    """uint8."""
    short_places: int | None = None
    """As of ContextBatch."""

    def batch(self) -> ContextBatch:
        """The same as tensors."""
        # Here, not above: tasks that only write contexts into rows start without torch.
        from adbeam.features.batch import ContextBatch

        return ContextBatch.of(
            self.static_BF,
            self.code_BST,
            self.feature_BSC,
            self.trend_code_BNT,
            self.trend_feature_BNC,
            self.short_places,
        )


def build_contexts(
    histories: Sequence[History],
    moments: Sequence[Moment],
    spec: FeatureSpec,
    trends: Trends | None = None,
) -> Contexts:
    """The contexts of requests whose users' histories are given; without `trends` no ad trends."""
    now_ms_B = np.array([moment.now_ms for moment in moments], dtype=np.int64)
    tokens = HistoryTokens.of(histories, now_ms_B, spec)
    scenes, users = [moment.scene for moment in moments], [moment.user_id for moment in moments]
    told = [moment.told for moment in moments]
    static_BF = static_features(now_ms_B, scenes, users, tokens.events_B, told, spec)
    contexts = static_BF, tokens.code_BST, tokens.feature_BSC
    if spec.order_only:
        static_BF[:] = 0
        tokens.feature_BSC[:, :, OF_ORDER:] = 0
    if not spec.trending_length:
        return Contexts(*contexts)
    trending = [no_trending(spec) if trends is None else trends.at(moment.now_ms) for moment in moments]
    codes, features = zip(*trending, strict=True)
    return Contexts(*contexts, np.stack(codes), np.stack(features))
