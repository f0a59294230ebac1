"""Profiles that clients post, and users that they want forgotten: into the store, and out of the result cache.

No value of a profile is logged, nor is a user id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from adbeam.identity.people import known_user
from adbeam.recorder import Recorder
from adbeam.serving.config import ServingConfig
from adbeam.serving.http.context import PostedUser, UserBatch
from adbeam.serving.http.problems import field_problem
from adbeam.serving.privacy import PrivacyGate
from adbeam.serving.queue.cache import ResultCache
from adbeam.serving.stores.profiles import profile_text
from adbeam.serving.stores.store import Forgotten, HistoryStore

logger = logging.getLogger(__name__)

Done = TypeVar("Done")


class Profiles:
    """Takes batches of users; `writer` is the one thread that the store is written from."""

    def __init__(
        self, config: ServingConfig, store: HistoryStore, cache: ResultCache, writer: Executor, metrics: Recorder
    ) -> None:
        self._store, self._cache, self._writer, self._metrics = store, cache, writer, metrics
        self._config = config.store
        self._privacy = PrivacyGate(config.privacy, metrics)

    async def take(self, batch: UserBatch, nobody_words: frozenset[str]) -> dict[str, int] | None:
        """Users by what became of their profiles, those among `nobody_words` as nobody, those whose signals forbid to
        keep them as forbidden; None when the store refused them, so that they may come again.

        Raises Problem 422 for a user that stands twice and for a profile that is too large: then none is kept.
        """
        users = [placed for placed in enumerate(batch.users) if not self._privacy.forbids(placed[1].privacy)]
        texts = self._texts(users, nobody_words)
        if not await self._written("put_profiles", lambda: self._put(texts)):
            return None
        for user_id in texts:
            self._cache.forget_user(user_id)
        stored = sum(1 for text in texts.values() if text)
        counts = {"stored": stored, "removed": len(texts) - stored, "nobody": len(users) - len(texts)}
        if forbidden := len(batch.users) - len(users):
            counts["forbidden"] = forbidden
        for result, count in counts.items():
            self._metrics.add("adbeam_profiles", count, result=result)
        return counts

    async def forget(self, user_id: str, nobody_words: frozenset[str]) -> Forgotten | None:
        """Take out what is kept of a user; None when the store refused. Raises Problem 422 for nobody."""
        known = known_user(user_id, nobody_words)
        if known is None:
            raise field_problem("user_id", "Input should name a user: this one means nobody", user_id)
        found = await self._written("forget", lambda: self._store.forget(known))
        if found is not None:
            self._cache.forget_user(known)
            self._metrics.add("adbeam_profiles", result="forgotten")
        return found

    def _texts(self, users: Sequence[tuple[int, PostedUser]], nobody_words: frozenset[str]) -> dict[str, str]:
        """Profiles as they are kept, by user, of users at their places in the batch; nobody is left out."""
        found: dict[str, str] = {}
        for place, user in users:
            user_id = known_user(user.user_id, nobody_words)
            if user_id is None:
                continue
            if user_id in found:
                raise field_problem(f"users.{place}.user_id", "Input should name each user once", user.user_id)
            text = profile_text(user.profile.told())
            if (size := len(text.encode())) > self._config.profile_bytes:
                most = f"Input should have at most {self._config.profile_bytes:,} bytes as JSON"
                raise field_problem(f"users.{place}.profile", f"{most} (store.profile_bytes)", f"{size:,} bytes")
            found[user_id] = text
        return found

    def _put(self, texts: dict[str, str]) -> bool:
        self._store.put_profiles(texts)
        return True

    async def _written(self, operation: str, write: Callable[[], Done]) -> Done | None:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, write)
        except Exception as error:  # not its text: Redis repeats the command there, user and values and all
            logger.error("the history store refused to change profiles (%s): %s", operation, type(error).__name__)
            self._metrics.add("adbeam_store_failures", operation=operation)
            return None
