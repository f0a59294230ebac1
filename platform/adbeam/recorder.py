"""The recorder of metrics: what every part that counts or times something is handed."""

from __future__ import annotations

from typing import Protocol


class Recorder(Protocol):
    """Where values go."""

    def add(self, name: str, value: float = 1.0, **tags: str) -> None:
        """Raise a counter."""

    def observe(self, name: str, value: float, **tags: str) -> None:
        """One observation of a histogram."""

    def set(self, name: str, value: float, **tags: str) -> None:
        """The present value of a gauge."""
