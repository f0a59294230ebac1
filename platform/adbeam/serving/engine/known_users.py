"""What is known of the users of a batch: their histories, and their profiles where features of users are declared.

Both are read in one go. A store that cannot be read, or not in time, makes users unknown and never an answer late.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from adbeam.recorder import Recorder
from adbeam.records import ACTIONS, ITEM_KINDS
from adbeam.serving.engine.request import Query
from adbeam.serving.stores.profiles import of_source, read_profile
from adbeam.serving.stores.store import EMPTY, UNREAD, HistoryStore, Known, UserHistory, user_history
from adbeam.targeting.features import Features
from adbeam.targeting.told import Context

logger = logging.getLogger(__name__)


class KnownUsers:
    """Reads the users of queries from one store."""

    def __init__(self, store: HistoryStore, features: Features, metrics: Recorder) -> None:
        self._store, self._features, self._metrics = store, of_source(features, "user"), metrics

    def read(self, queries: Sequence[Query]) -> tuple[list[UserHistory], list[Context | None]]:
        """The history and the profile of each query: inline histories as they are, UNREAD where it could not be read,
        no profile (None) where it is not asked for or could not be read."""
        asks = any(query.unread for query in queries)
        users = list(dict.fromkeys(q.user_id for q in queries if q.user_id is not None and _is_read(q)))
        known = self._profiled(users) if asks else self._histories(users)
        histories = [_history(query, known) for query in queries]
        if not asks:
            return histories, [None] * len(queries)
        return histories, [self._profile(known.get(query.user_id or "")) if query.unread else None for query in queries]

    def _histories(self, users: Sequence[str]) -> Mapping[str, Known]:
        try:
            found = self._store.recent_many(users) if users else []
        except Exception as error:
            return self._failed(users, error)
        return {user_id: Known(history) for user_id, history in zip(users, found, strict=True)}

    def _profiled(self, users: Sequence[str]) -> Mapping[str, Known]:
        try:
            return dict(zip(users, self._store.known_many(users), strict=True))
        except Exception as error:
            return self._failed(users, error)

    def _failed(self, users: Sequence[str], error: Exception) -> Mapping[str, Known]:
        kind = type(error).__name__  # not its text: Redis repeats keys there, and users are in them
        logger.error("the history store cannot be read, %d users count as unknown: %s", len(users), kind)
        self._metrics.add("adbeam_store_failures", operation="recent")
        return {}

    def _profile(self, known: Known | None) -> Context | None:
        if known is None:
            return None
        try:
            return read_profile(known.profile, self._features)
        except (ValueError, AttributeError):
            logger.error("a profile in the store is no JSON object; it counts as unread")
            self._metrics.add("adbeam_store_failures", operation="profile")
            return None


def _is_read(query: Query) -> bool:
    return query.history is None or bool(query.unread)


def _history(query: Query, known: Mapping[str, Known]) -> UserHistory:
    if query.history is not None:
        return _inline(query)
    if query.user_id is None:
        return EMPTY
    found = known.get(query.user_id)
    return UNREAD if found is None else found.history or EMPTY


def _inline(query: Query) -> UserHistory:
    return user_history(
        (e.item_id, e.timestamp, ACTIONS.index(e.action), ITEM_KINDS.index(e.item_kind), e.value)
        for e in query.history or ()
    )
