"""A history store: dictionaries, for a replica that decodes in its own process (`engine.own_process: false`)."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from adbeam.logs.trending import windows_of
from adbeam.records import Event
from adbeam.serving.config import StoreConfig
from adbeam.serving.stores.store import Forgotten, HourCount, Known, UserHistory, event_row, hour_counts, user_history


def open_memory(config: StoreConfig) -> "MemoryStore":
    """What `store.backend: memory` opens."""
    return MemoryStore(config.max_events)


class MemoryStore:
    """Histories until the process ends. Safe to call from several threads."""

    def __init__(self, max_events: int) -> None:
        self._max_events, self._lock = max_events, threading.Lock()
        self._histories: dict[str, UserHistory] = {}
        self._profiles: dict[str, str] = {}
        self._event_ids: set[str] = set()
        self._conversions: Counter[tuple[int, str]] = Counter()
        self._filled = False

    def recent(self, user_id: str) -> UserHistory | None:
        return self._histories.get(user_id)

    def recent_many(self, user_ids: Sequence[str]) -> list[UserHistory | None]:
        return [self._histories.get(user_id) for user_id in user_ids]

    def known_many(self, user_ids: Sequence[str]) -> list[Known]:
        return [Known(self._histories.get(user_id), self._profiles.get(user_id)) for user_id in user_ids]

    def put_profiles(self, profiles: Mapping[str, str]) -> None:
        for user_id, profile in profiles.items():
            if profile:
                self._profiles[user_id] = profile
            else:
                self._profiles.pop(user_id, None)

    def forget(self, user_id: str) -> Forgotten:
        had_profile = self._profiles.pop(user_id, None) is not None
        return Forgotten(had_profile, self._histories.pop(user_id, None) is not None)

    def append(self, events: Sequence[Event]) -> list[bool]:
        with self._lock:
            return [self._append(event) for event in events]

    def conversions(self, hour: int) -> tuple[Counter[str], ...]:
        return windows_of([(then, item, count) for (then, item), count in self._conversions.items()], hour)

    def fill(
        self, source: str, histories: Iterable[tuple[str, UserHistory]], conversions: Iterable[HourCount] = ()
    ) -> int:
        with self._lock:
            if self._filled:
                return 0
            self._filled = True
            self._histories |= {user_id: history.newest(self._max_events) for user_id, history in histories}
            self._conversions.update({(hour, item): count for hour, item, count in conversions})
            return len(self._histories)

    def close(self) -> None:
        self._histories.clear()

    def _append(self, event: Event) -> bool:
        if event.event_id in self._event_ids:
            return False
        self._event_ids.add(event.event_id)
        before, new = self._histories.get(event.user_id), user_history([event_row(event)])
        self._histories[event.user_id] = (before.extended(new) if before else new).newest(self._max_events)
        self._conversions.update({(hour, item): count for hour, item, count in hour_counts([event])})
        return True
