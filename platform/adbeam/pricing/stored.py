"""What a bundle says of its money: the unit of the model's number, and the prices where it has to be turned into CPM.

Two files of a bundle that has them: `money.json` and `money.parquet`. A bundle without them is of a log without
impressions, or of a version before they existed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.pricing.scale import AdPrices, MoneyScale

MONEY, RATES = "money.json", "money.parquet"
Source = Literal["impressions", "log_ecpm"]


@dataclass(frozen=True)
class BundleMoney:
    """`impressions`: the model's number is the money of a target, `prices` make CPM of it. `log_ecpm`: the log's only
    money was eCPM, the number is CPM as it is."""

    source: Source
    prices: AdPrices | None = None
    found: dict[str, Any] = field(default_factory=dict)
    """What the fit saw: impressions, targets, money of a thousand as it came and as priced, by decile."""

    def write(self, folder: Path) -> None:
        """Put the files into a bundle that is being written."""
        stored: dict[str, Any] = {"source": self.source, "found": self.found}
        if self.prices is not None:
            stored["scale"] = self.prices.scale.as_dict()
            pq.write_table(self.prices.rates, folder / RATES)
        artifacts.write_json(folder / MONEY, stored)

    @classmethod
    def read(cls, folder: Path) -> BundleMoney | None:
        """What a bundle holds; None where it says nothing."""
        if not (folder / MONEY).is_file():
            return None
        stored = json.loads((folder / MONEY).read_text(encoding="utf-8"))
        prices = None
        if "scale" in stored:
            prices = AdPrices(MoneyScale.from_dict(stored["scale"]), pq.read_table(folder / RATES))
        return cls(stored["source"], prices, stored["found"])
