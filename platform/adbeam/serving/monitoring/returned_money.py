"""Returned money: what the ads of an answer were expected to bring against what posted events say they brought.

A replica remembers answers for a window, so that an answer's impressions and its later conversions are counted against
each other: both when its window ends, under the scene and model that answered. Where more answers come than it may
remember it keeps a share of them, chosen by a hash of their ids, and each counts for those left out. Behind several
replicas each hears a part of the events of its own answers, of impressions and conversions alike: sums are of that
part, their ratio is not touched. User ids are not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from adbeam.recorder import Recorder
from adbeam.records import Action, Event
from adbeam.serving.config import ReturnedMoneyConfig
from adbeam.serving.stores.store import now_ms

HOUR_MS = 3_600_000
_HASHES = 1 << 32


@dataclass(slots=True)
class _Answer:
    answered_ms: int
    scene: str
    model_version: str
    worth: Mapping[str, float]
    """Expected eCPM by ad."""
    expected: float = 0.0
    returned: float = 0.0
    conversions: int = 0
    shown: set[str] | None = None


class ReturnedMoney:
    """Remembers answers of one replica; `publish` counts those whose window has ended."""

    def __init__(self, config: ReturnedMoneyConfig, metrics: Recorder, clock_ms: Callable[[], int] = now_ms) -> None:
        self._config, self._metrics, self._clock_ms = config, metrics, clock_ms
        self._answers: dict[str, _Answer] = {}  # in the order they were given
        self._below = _HASHES if config.answers_max else 0
        self._lock = Lock()

    def answered(self, scene: str, body: Mapping[str, Any]) -> None:
        """Remember an answer, as its body tells it; a repeated request id keeps its first."""
        request_id = body["request_id"]
        if self._hash(request_id) >= self._below:
            return
        worth = {ad["item_id"]: ad["expected_ecpm"] for ad in body["ads"] if ad["expected_ecpm"] is not None}
        answer = _Answer(self._clock_ms(), scene, body["served"]["model_version"], worth)
        with self._lock:
            self._answers.setdefault(request_id, answer)
            if len(self._answers) > self._config.answers_max:
                self._halve()

    def take(self, events: Iterable[Event]) -> None:
        """Count events of remembered answers: an impression for its expected money, once an ad and answer; a conversion
        for its price, or its bid where it tells none."""
        with self._lock:
            for event in events:
                answer = self._answers.get(event.request_id)
                if answer is None or event.item_id not in answer.worth:
                    continue
                if answer.shown is None:
                    answer.shown = set()
                if event.item_id not in answer.shown:  # a conversion implies that the ad was shown
                    answer.shown.add(event.item_id)
                    answer.expected += answer.worth[event.item_id] / 1000
                if event.action == Action.CONVERSION:
                    answer.returned += event.bid or 0.0 if event.price is None else event.price
                    answer.conversions += 1

    def publish(self) -> None:
        """Hand over the answers whose window has ended."""
        until_ms = self._clock_ms() - self._config.window_hours * HOUR_MS
        with self._lock:
            ended = []
            for request_id, answer in self._answers.items():
                if answer.answered_ms > until_ms:
                    break
                ended.append(request_id)
            weight = _HASHES / self._below if self._below else 0.0
            for answer in [self._answers.pop(request_id) for request_id in ended]:
                self._count(answer, weight)

    def _count(self, answer: _Answer, weight: float) -> None:
        if answer.shown:
            tags = {"scene": answer.scene, "model_version": answer.model_version}
            self._metrics.add("adbeam_money_expected", weight * answer.expected, **tags)
            self._metrics.add("adbeam_money_returned", weight * answer.returned, **tags)
            self._metrics.add("adbeam_money_conversions", weight * answer.conversions, **tags)

    def _halve(self) -> None:
        """Remember half of the answers from now on; those that stay count twice."""
        self._below //= 2
        self._answers = {name: kept for name, kept in self._answers.items() if self._hash(name) < self._below}

    @staticmethod
    def _hash(request_id: str) -> int:
        return hash(request_id) % _HASHES
