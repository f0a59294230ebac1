"""A log of impressions, clicks and orders whose rates are known: by scene and ad, with bids or prices."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.support.samples import DAY_MS, START_MS, TEST_FROM_MS, VALIDATION_FROM_MS, sample_catalogue

from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.records import EVENT_SCHEMA

SCENES = ("feed", "search")


@dataclass
class ImpressionLog:
    """Rows of a log to come; `show` adds to them."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    users: int = 20
    request: int = 0

    def show(
        self,
        item: str,
        scene: str,
        shown: int,
        clicks: int = 0,
        orders: int = 0,
        day: float = 1.0,
        price: float | None = None,
        bid: float | None = None,
    ) -> None:
        """`shown` requests with this ad, the first of which are clicked, and the first of those ordered."""
        for number in range(shown):
            actions = ["impression"] + ["click"] * (number < clicks) + ["conversion"] * (number < orders)
            for action in actions:
                self.add(item, scene, action, len(self.rows) if action == "impression" else None, day, price, bid)

    def add(
        self,
        item: str,
        scene: str,
        action: str,
        request: int | None = None,
        day: float = 1.0,
        price: float | None = None,
        bid: float | None = None,
    ) -> None:
        """One event; without a number it belongs to the request before it."""
        place = len(self.rows)
        self.request = self.request if request is None else request
        self.rows.append(
            {
                "event_id": f"e{place}",
                "request_id": f"r{self.request}",
                "user_id": f"user{self.request % self.users}",
                "timestamp": START_MS + int(day * DAY_MS) + place,
                "item_id": item,
                "item_kind": "ad",
                "scene": scene,
                "action": action,
                "bid": bid,
                "price": price if action == "conversion" else None,
            }
        )

    def settings(self, folder: Path, columns: dict[str, list[Any]] | None = None, **logs: Any) -> dict[str, Any]:
        """Write the log; returns values for LogsConfig. `columns` are feature columns of numbers."""
        folder.mkdir(parents=True, exist_ok=True)
        later = self._later()
        table = pa.Table.from_pylist(self.rows + later, schema=EVENT_SCHEMA)
        for name, values in (columns or {}).items():
            table = table.append_column(name, pa.array([*values, *[1.0] * len(later)], pa.float64()))
        pq.write_table(table, folder / "events.parquet")
        pq.write_table(sample_catalogue(30), folder / "catalogue.parquet")
        events = {"path": str(folder / "events.parquet"), "features": dict.fromkeys(columns or {}, "number")}
        split = {"by": "time", "validation_from": VALIDATION_FROM_MS, "test_from": TEST_FROM_MS}
        files = {"events": events, "catalogue": str(folder / "catalogue.parquet")} | logs.pop("files", {})
        return {"source": "files", "files": files, "split": split, "shards": 3, "value": "ecpm"} | logs

    def _later(self) -> list[dict[str, Any]]:
        """Organic events for validation and test where a log has none there; nothing is learnt from them."""
        last = max((row["timestamp"] for row in self.rows), default=0)
        event = {"user_id": "user0", "item_id": "item2", "item_kind": "organic", "scene": "feed", "action": "deep"}
        return [
            event | {"event_id": f"later{moment}", "request_id": f"later{moment}", "timestamp": moment}
            for moment in (VALIDATION_FROM_MS, TEST_FROM_MS)
            if last < TEST_FROM_MS
        ]

    def prepare(self, work_dir: Path, **arguments: Any) -> PreparedLog:
        """The log prepared in `work_dir / "prepared"`, in this process."""
        logs = LogsConfig.parse(self.settings(work_dir / "rows", **arguments))
        return run(SimpleNamespace(work_dir=work_dir, logs=logs), in_process=True)


AD_RATES = (0.5, 2.0)
"""Every ad of `random_log` clicks this many times as its scene does; the ads take turns."""


def random_log(impressions: int = 3000, seed: int = 0) -> ImpressionLog:
    """Impressions of ten ads in two scenes: 4 % and 16 % are clicked, times AD_RATES; a quarter of those order."""
    rng, log = np.random.default_rng(seed), ImpressionLog()
    for _ in range(impressions):
        number, scene = int(rng.integers(10)), int(rng.integers(2))
        clicked = rng.random() < (0.04, 0.16)[scene] * AD_RATES[number % 2]
        ordered = clicked and rng.random() < 0.25
        ad = number + number // 2  # of sample_catalogue every third item is organic
        log.show(f"item{ad}", SCENES[scene], 1, int(clicked), int(ordered), float(rng.uniform(1, 95)), bid=10.0)
    return log
