"""What the Complete Journey log knows of its households: demographics, and which campaigns they were sent.

Demographics of 801 of the households stand in `demographics.parquet` and hold from the beginning. `campaigns` are those
that a household was sent and that run: from a campaign's first day, 00:00 UTC, until the day after its last. An ad that
such a campaign has coupons for is targeted at the households that were sent it, by the rule `campaigns`; this narrows
whom it is served to, and the purchases that the log has of it stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.records import DAY_MS
from adbeam.targeting.features import FeatureConfig, Features
from adbeam.targeting.rules import TARGETING, read_rules

CAMPAIGNS = "campaigns"
"""The feature of users, and what the rules of ads ask for."""
OF_USERS = {
    "demographics.parquet": (
        "household_id",
        "age",
        "income",
        "home_ownership",
        "marital_status",
        "household_size",
        "household_comp",
        "kids_count",
    ),
    "campaigns.parquet": ("campaign_id", "household_id"),
    "campaign_descriptions.parquet": ("campaign_id", "start_date", "end_date"),
}
"""Files that are read where features of users are declared, and their columns."""


def asks_for_campaigns(features: Features | None) -> bool:
    """Whether ads are targeted by campaigns: where a list of that name is declared as known of users."""
    declared = (features or {}).get(CAMPAIGNS)
    return declared is not None and declared.source == "user" and declared.kind == "list"


def households(folder: Path) -> pa.Table:
    """user_id, valid_from (ms UTC), demographics and `campaigns`: a row for each household and moment at which what is
    known of it changes."""
    columns = OF_USERS["demographics.parquet"]
    known = pq.read_table(folder / "demographics.parquet", columns=list(columns))
    changes = _changes(folder)
    ids = np.union1d(known["household_id"].to_numpy(), np.array(sorted(changes), dtype=np.int64))
    rows = [(user, moment, running) for user in ids.tolist() for moment, running in changes.get(user, _NOTHING)]
    schema = pa.schema([("household_id", pa.int64()), ("valid_from", pa.int64()), (CAMPAIGNS, pa.list_(pa.string()))])
    table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
    place = pc.index_in(table["household_id"], value_set=known["household_id"].combine_chunks())
    for name in columns[1:]:
        table = table.append_column(name, known[name].cast(pa.string()).take(place))
    return table.rename_columns({"household_id": "user_id"})


Change = tuple[int | None, list[str]]
"""From when on which campaigns run; None is from the beginning."""
_NOTHING: list[Change] = [(None, [])]


def _changes(folder: Path) -> dict[int, list[Change]]:
    """{household: changes of the campaigns that it was sent, the oldest first}."""
    sent = pq.read_table(folder / "campaigns.parquet", columns=["campaign_id", "household_id"])
    runs = _runs(folder)
    of_household: dict[int, set[int]] = {}
    for campaign, household in zip(sent["campaign_id"].to_pylist(), sent["household_id"].to_pylist(), strict=True):
        if campaign in runs:
            of_household.setdefault(household, set()).add(campaign)
    return {household: _running(campaigns, runs) for household, campaigns in of_household.items()}


def _running(campaigns: set[int], runs: Mapping[int, tuple[int, int]]) -> list[Change]:
    moments = sorted({moment for campaign in campaigns for moment in runs[campaign]})
    return _NOTHING + [
        (moment, [str(one) for one in sorted(campaigns) if runs[one][0] <= moment < runs[one][1]]) for moment in moments
    ]


def _runs(folder: Path) -> dict[int, tuple[int, int]]:
    """{campaign: (its first moment, the first after it)}."""
    described = pq.read_table(
        folder / "campaign_descriptions.parquet", columns=list(OF_USERS["campaign_descriptions.parquet"])
    )
    start, end = (described[name].cast(pa.timestamp("ms")).cast(pa.int64()).to_pylist() for name in _DATES)
    numbers = described["campaign_id"].to_pylist()
    return {number: (first, last + DAY_MS) for number, first, last in zip(numbers, start, end, strict=True)}


_DATES = ("start_date", "end_date")


def with_rules(items: pa.Table, coupons: pa.Table, features: Mapping[str, FeatureConfig]) -> pa.Table:
    """The catalogue with rules of the ads that campaigns have coupons for, where there are any."""
    of_product: dict[str, set[str]] = {}
    products, campaigns = (coupons[name].cast(pa.string()).to_pylist() for name in ("product_id", "campaign_id"))
    for product, campaign in zip(products, campaigns, strict=True):
        of_product.setdefault(product, set()).add(campaign)
    texts = [
        _rule(of_product[item], features) if kind == "ad" and item in of_product else None
        for item, kind in zip(items["item_id"].to_pylist(), items["kind"].to_pylist(), strict=True)
    ]
    return items.append_column(TARGETING, pa.array(texts, pa.string())) if any(texts) else items


def _rule(campaigns: set[str], features: Mapping[str, FeatureConfig]) -> str | None:
    return read_rules(json.dumps({CAMPAIGNS: {"in": sorted(campaigns)}}), features).text
