"""Money of a log in a sketch: counts and sums by logarithmic bucket, small enough to cross from a task to the driver.

One row in micros among prices in units weighs more than all others together. What is beyond reason is told by the
median, which such a row does not move. Numpy only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

MOST_MEDIANS = 1000.0
"""An amount above this many medians is beyond reason. The dearest of 1.2 million purchases of Complete Journey is
420 medians, lognormal money of sigma 2 passes 1,000 once in 3,000 rows, and a slip into micros is 1,000,000."""
STEPS = 100
"""Buckets to one factor e: a median is right to 1 %."""


@dataclass
class MoneySketch:
    """Amounts above 0: how many and how much by bucket floor(STEPS x ln(amount)), and the largest of them."""

    rows: Counter[int] = field(default_factory=Counter)
    money: Counter[int] = field(default_factory=Counter)
    largest: float = 0.0
    example: dict[str, Any] = field(default_factory=dict)
    """What names the row of the largest amount."""

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """Of the finite amounts above 0."""
        values = np.asarray(values, dtype=np.float64)
        values = values[np.isfinite(values) & (values > 0)]
        if not len(values):
            return cls()
        bucket, inverse = np.unique(np.floor(STEPS * np.log(values)).astype(int), return_inverse=True)
        rows, money = np.bincount(inverse), np.bincount(inverse, weights=values)
        keys = bucket.tolist()
        return cls(
            Counter(dict(zip(keys, rows.tolist(), strict=True))),
            Counter(dict(zip(keys, money.tolist(), strict=True))),
            float(values.max()),
        )

    def add(self, other: MoneySketch) -> None:
        """Take in another part of the log."""
        self.rows.update(other.rows)
        self.money.update(other.money)
        if other.largest > self.largest:
            self.largest, self.example = other.largest, other.example

    @property
    def median(self) -> float:
        """Of the amounts, to 1 %; 0 without any."""
        left = (self.rows.total() + 1) // 2
        for bucket in sorted(self.rows):
            left -= self.rows[bucket]
            if left <= 0:
                return float(min(np.exp((bucket + 0.5) / STEPS), self.largest))
        return 0.0

    @property
    def beyond_reason(self) -> int:
        """How many amounts lie above MOST_MEDIANS medians."""
        if not self.rows:
            return 0
        limit = np.floor(STEPS * np.log(MOST_MEDIANS * self.median))
        return sum(count for bucket, count in self.rows.items() if bucket > limit)

    def share_of_dearest(self, count: int) -> float:
        """Which share of all money the `count` largest amounts hold; 0 without money."""
        left, held, total = count, 0.0, sum(self.money.values())
        for bucket in sorted(self.rows, reverse=True):
            taken = min(left, self.rows[bucket])
            held += self.money[bucket] * taken / self.rows[bucket]
            left -= taken
            if not left:
                break
        return held / total if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        """What a task answers; `from_dict` reads it, from JSON too."""
        return {"rows": self.rows, "money": self.money, "largest": self.largest, "example": self.example}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """The sketch that `as_dict` stored."""
        rows, money = (
            Counter({int(bucket): value for bucket, value in stored[name].items()}) for name in ("rows", "money")
        )
        return cls(rows, money, stored["largest"], stored["example"])

    def summary(self) -> dict[str, Any]:
        """For an account: amounts, their median, how many are beyond reason, the largest and what names its row."""
        return {
            "rows": self.rows.total(),
            "median": float(f"{self.median:.3g}"),
            "beyond_reason": self.beyond_reason,
            "largest": self.largest,
            **self.example,
        }


def reason_limit(values: np.ndarray) -> float:
    """MOST_MEDIANS times the median of the values above 0; infinite where there is none."""
    positive = values[values > 0]
    return MOST_MEDIANS * float(np.median(positive)) if len(positive) else float("inf")
