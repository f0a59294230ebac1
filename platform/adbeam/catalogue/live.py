"""The ads that follow the update log, as a replica sees them: what it asks, what it hears, what can go wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from adbeam.catalogue.index import Sid
from adbeam.catalogue.owners import Owner
from adbeam.catalogue.updates import AdChange
from adbeam.errors import UserError
from adbeam.recorder import Recorder


class ChangeRefused(UserError):
    """A change of ads that cannot be made; `field` says which of those asked for."""


class LogUnavailable(UserError):
    """The update log cannot be read or written now: the same change may be made later."""


class LiveEcpm(Protocol):
    """Live eCPM by ad: the catalogue's until it is changed."""

    def ecpm(self, item_id: str, otherwise: float | None = None) -> float | None:
        """The live eCPM of an ad, None where nobody said; `otherwise` where nothing is known here."""


class HeardEcpm:
    """A LiveEcpm of what was heard: the ads of the bundle whose eCPM is 0, then every one that changed."""

    def __init__(self, worthless: Iterable[str] = ()) -> None:
        self._heard: dict[str, float | None] = dict.fromkeys(worthless, 0.0)

    def hear(self, item_id: str, ecpm: float | None) -> None:
        """An ad has changed."""
        self._heard[item_id] = ecpm

    def ecpm(self, item_id: str, otherwise: float | None = None) -> float | None:
        """The live eCPM of an ad, None where nobody said; `otherwise` where nothing was heard."""
        return self._heard.get(item_id, otherwise)


class Live(Protocol):
    """What a replica asks of the ads that follow the update log, in this process or in the decode process."""

    @property
    def watermark(self) -> int:
        """Newest update that has been applied."""

    def is_live(self, item_id: str) -> bool:
        """Whether an ad may be shown now."""

    def change(self, changes: Sequence[AdChange]) -> tuple[int, list[Sid | None]]:
        """Append changes and apply them: (number of the last, SID of each inserted ad).

        Raises ChangeRefused or LogUnavailable.
        """

    def publish(self) -> None:
        """Set the gauges."""

    def stop(self) -> None:
        """Follow no longer."""


@dataclass(frozen=True)
class LiveNews:
    """What has changed since index version `since`: every ad named, whether it is live, whether still as in the
    bundle, its live eCPM, its targeting rules as text, and whose it is."""

    version: int
    watermark: int
    skipped: int
    age_seconds: float
    ads: list[tuple[str, bool, bool, float | None, str | None, Owner]]


def publish(metrics: Recorder, news: LiveNews, heard_seconds_ago: float = 0.0) -> None:
    """Set the gauges of the update log."""
    metrics.set("adbeam_ad_updates_watermark", news.watermark)
    metrics.set("adbeam_ad_updates_skipped", news.skipped)
    metrics.set("adbeam_ad_updates_age_seconds", news.age_seconds + heard_seconds_ago)
