"""Calibration of the market: what real logs say, as aggregates; the simulated one takes its shapes from these numbers.

Measured once with `measure` and `measure_traffic`; no row of any log is kept. Rates of clicks are too low in these logs
(0.1 % of implied exposures convert, 0.4 % of shown items are clicked) to learn from a small simulated market: the
market's own rates are settings and say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from adbeam.logs.prepared import PreparedLog


@dataclass(frozen=True)
class Aggregates:
    """Of real logs."""

    log_price_mean: float
    """Of ln(price of an ad conversion), Complete Journey (CC0)."""
    log_price_std: float
    conversion_per_exposure: float
    """Ad conversions per implied exposure, Complete Journey."""
    new_ads_per_week: float
    """Share of the ads converting in a week that never converted before, Complete Journey, weeks 21 to 44."""
    top_percent_share: float
    """Share of the ad conversions that the most converting hundredth of the ads have, Complete Journey."""
    traffic_by_hour: tuple[float, ...]
    """Shares of an ad platform's traffic by hour of the day, mean over 114 regions (avito-tech, MIT)."""


AGGREGATES = Aggregates(
    log_price_mean=0.715,
    log_price_std=0.764,
    conversion_per_exposure=0.00106,
    new_ads_per_week=0.174,
    top_percent_share=0.283,
    traffic_by_hour=(
        0.0143, 0.0096, 0.0079, 0.0083, 0.0103, 0.0140, 0.0201, 0.0292, 0.0437, 0.0601, 0.0706, 0.0733,
        0.0727, 0.0715, 0.0693, 0.0666, 0.0629, 0.0583, 0.0540, 0.0493, 0.0436, 0.0376, 0.0307, 0.0222,
    ),
)  # fmt: skip
"""Measured on 2026-11-22."""


def measure(prepared: PreparedLog, traffic: Path) -> Aggregates:
    """The same numbers from a prepared Complete Journey log and a table of traffic shares by hour."""
    columns = ["item_kind", "action", "price", "exposure_weight", "item_id", "week"]
    events = pd.concat([pq.read_table(path, columns=columns).to_pandas() for path in prepared.events()])
    ads = events[events.item_kind == "ad"]
    converted = ads[ads.action == "conversion"]
    exposed = float(ads[ads.action == "impression"].exposure_weight.sum()) + len(converted)
    first = converted.groupby("item_id").week.min()
    by_week = converted.groupby("week").item_id.unique()
    new = [float((first[items] == week).mean()) for week, items in by_week.items() if week > 20]
    counts = np.sort(converted.item_id.value_counts().to_numpy())[::-1]
    log_price = np.log(converted.price)
    return Aggregates(
        log_price_mean=float(log_price.mean()),
        log_price_std=float(log_price.std()),
        conversion_per_exposure=len(converted) / exposed,
        new_ads_per_week=float(np.mean(new)),
        top_percent_share=float(counts[: max(1, len(counts) // 100)].sum() / counts.sum()),
        traffic_by_hour=measure_traffic(traffic),
    )


def measure_traffic(path: Path) -> tuple[float, ...]:
    """Share of the traffic in each hour of the day, from columns hour and traffic_share."""
    share = pd.read_csv(path).groupby("hour").traffic_share.sum()
    return tuple((share / share.sum()).tolist())
