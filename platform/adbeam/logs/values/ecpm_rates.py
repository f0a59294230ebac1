"""The expected money of a thousand impressions of an ad in a scene: v = 1000 x pCTR x pCVR x bid (GR4AD 1.5).

Shapes: N ads, S scenes, C pairs of an ad and a scene, E events.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.logs.money import MOST_MEDIANS
from adbeam.logs.values.credibility import rates_by_scene_and_ad
from adbeam.records import MOST_MONEY

ADS, SCENES = "ads.parquet", "scenes.parquet"
FEW = 0.01
"""Amounts beyond reason are left out where they are one, or at most this share; more of them are what the log is."""


@dataclass(frozen=True)
class EcpmRates:
    """Rates and money of the training split. The last row of each table, under the name null, is for what it lacks."""

    ads: pa.Table
    """item_id; click_factor and conversion_factor against the scene's rates; money of one conversion (of one click in a
    log without conversions)."""
    scenes: pa.Table
    """scene; click_rate, clicks an impression; conversion_rate, conversions a click; impressions."""
    left_out: int
    """Amounts beyond reason that no mean holds."""

    @classmethod
    def fit(cls, counts: pa.Table, amounts: pa.Table, target: str) -> Self:
        """From the sums of `counting.count_exposures` and `count_amounts` over all shards.

        The money of an ad is the mean of its bids, else of its conversions' prices, else that of all ads by their
        conversions. Raises UserError where the log tells no money at all.
        """
        ad, scene = (counts[name].combine_chunks().dictionary_encode() for name in ("item_id", "scene"))
        place = (scene.indices.to_numpy(), ad.indices.to_numpy())
        shown_C, clicked_C, converted_C = (counts[name].to_numpy() for name in ("impressions", "clicks", "conversions"))
        click, click_S, click_N = rates_by_scene_and_ad(*place, shown_C, clicked_C)
        deal, deal_S, deal_N = (1.0, np.ones(len(click_S)), np.ones(len(click_N)))
        if target == "conversion":
            deal, deal_S, deal_N = rates_by_scene_and_ad(*place, clicked_C, converted_C)
        kept = within_reason(amounts)
        paid_N = np.bincount(place[1], weights=converted_C if target == "conversion" else clicked_C)
        ads = {
            "item_id": pa.array([*ad.dictionary.to_pylist(), None], pa.string()),
            "click_factor": np.append(click_N, 1.0),
            "conversion_factor": np.append(deal_N, 1.0),
            "money": _money(kept, ad.dictionary, paid_N),
        }
        shown_S = np.bincount(place[0], weights=shown_C)
        scenes = {
            "scene": pa.array([*scene.dictionary.to_pylist(), None], pa.string()),
            "click_rate": np.append(click_S, click),
            "conversion_rate": np.append(deal_S, deal),
            "impressions": np.append(shown_S, shown_S.sum()),
        }
        left_out = int(pc.sum(amounts["rows"]).as_py() or 0) - int(pc.sum(kept["rows"]).as_py() or 0)
        return cls(pa.table(ads), pa.table(scenes), left_out)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `write` left in a folder."""
        return cls(pq.read_table(folder / ADS), pq.read_table(folder / SCENES), 0)

    def write(self, folder: Path) -> None:
        """Store both tables."""
        folder.mkdir(exist_ok=True)
        pq.write_table(self.ads, folder / ADS, compression="zstd")
        pq.write_table(self.scenes, folder / SCENES, compression="zstd")

    def values(self, items: pa.Array, scenes: pa.Array) -> np.ndarray:
        """float32 [E]: the expected money of a thousand impressions of each ad in its scene.

        A scene that training never saw has the rates of all; an ad has the rates of its scene and the mean money.
        """
        rate_S = _product(self.scenes, "click_rate", "conversion_rate")
        worth_N = _product(self.ads, "click_factor", "conversion_factor", "money")
        rate_E = rate_S[_places(scenes, self.scenes["scene"])]
        worth_E = worth_N[_places(items, self.ads["item_id"])]
        value_E: np.ndarray = np.minimum(1000 * rate_E * worth_E, MOST_MONEY).astype(np.float32)
        return value_E


def within_reason(amounts: pa.Table) -> pa.Table:
    """Without the few amounts above MOST_MEDIANS medians of their column: one row in micros moves no mean."""
    return pa.concat_tables(
        [_column_within_reason(amounts.filter(pc.equal(amounts["column"], name))) for name in ("bid", "price")]
    )


def _column_within_reason(amounts: pa.Table) -> pa.Table:
    rows, mean = amounts["rows"].to_numpy(), pc.divide(amounts["money"], amounts["rows"]).to_numpy()
    rows_above_0 = rows[mean > 0]
    if not len(rows_above_0):
        return amounts
    rising = np.argsort(mean[mean > 0], kind="stable")
    half = np.searchsorted(rows_above_0[rising].cumsum(), (rows_above_0.sum() + 1) // 2)
    beyond = mean > MOST_MEDIANS * mean[mean > 0][rising][half]
    few = rows[beyond].sum() <= max(1, FEW * rows_above_0.sum())
    return amounts.filter(pa.array(~beyond)) if few else amounts


def _money(amounts: pa.Table, ads: pa.Array, paid_N: np.ndarray) -> np.ndarray:
    """float64 [N + 1]: money of one conversion of each ad, and the mean of all by their conversions."""
    money_N = np.full(len(ads), np.nan)
    for name in ("price", "bid"):
        own = amounts.filter(pc.equal(amounts["column"], name))
        place = _places(own["item_id"], ads)  # all amounts are of ads that have been counted
        rows_N, sum_N = (np.bincount(place, own[of].to_numpy(), minlength=len(ads)) for of in ("rows", "money"))
        money_N = np.where(rows_N > 0, sum_N / np.maximum(rows_N, 1), money_N)
    known = np.isfinite(money_N)
    if not (money_N[known] > 0).any():
        raise UserError(
            "ecpm needs money: no training event of an ad has a bid, and no conversion a price",
            field="logs.value",
            value="ecpm",
            remedy="map bid or price in logs.files.events.columns, or set logs.value: price_or_bid",
        )
    weight = paid_N[known] if paid_N[known].sum() > 0 else np.ones(int(known.sum()))
    mean = np.average(money_N[known], weights=weight)
    return np.append(np.where(known, money_N, mean), mean)


def _product(table: pa.Table, *columns: str) -> np.ndarray:
    product: np.ndarray = np.prod([table[name].to_numpy() for name in columns], axis=0)
    return product


def _places(values: pa.Array | pa.ChunkedArray, known: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """int64: where each value stands in `known`; -1, the last row, where it does not."""
    known = known.combine_chunks() if isinstance(known, pa.ChunkedArray) else known
    place: np.ndarray = pc.fill_null(pc.index_in(values, value_set=known), -1).to_numpy().astype(np.int64)
    return place
