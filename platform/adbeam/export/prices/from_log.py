"""What a log says of the money of a thousand impressions: what turns the model's numbers into it."""

from __future__ import annotations

from collections.abc import Mapping

from adbeam.export.prices.counts import AdCounts, money_limit
from adbeam.export.prices.fit import ad_table, fit_scale
from adbeam.export.prices.held_out import held_out
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.pricing.stored import BundleMoney

FEW_TARGETS = 10
"""With fewer in the training split's impressions nothing can be said of what they bring."""


def money_of(
    prepared: PreparedLog, recommender: Recommender, target: str, targets: Mapping[str, int], requests: int
) -> BundleMoney | None:
    """The prices that the log's own impressions support; None where they support none.

    `targets` are the training targets by ad, `requests` how many validation requests the model judges at most. A log
    whose only money is eCPM needs no prices: its values are CPM.
    """
    money = prepared.account.get("money", {})
    if "ecpm" in money and "price" not in money and "bid" not in money:
        return BundleMoney("log_ecpm")
    if prepared.impressions not in ("all", "weighted"):
        return None
    limit = money_limit(prepared, target)
    counts = AdCounts.of(prepared, target, limit)
    if counts.total("paid") < FEW_TARGETS:
        return None
    shown = held_out(prepared, recommender, target, requests, limit)
    sids = {item: recommender.sid(item) for item in recommender.catalogue.item_ids}
    table = ad_table(counts, targets, sids, target, number_is_ecpm=prepared.value == "ecpm")
    prices, found = fit_scale(table, shown)
    return BundleMoney("impressions", prices, {**found, "without_impression": counts.lost})


def told(money: BundleMoney | None, priced: bool) -> str:
    """What `export` prints of it."""
    if not priced:
        return "the log has no money: ads are worth their catalogue's or live eCPM"
    if money is None:
        return (
            "the log does not tell what a thousand impressions bring: OpenRTB bids stay off until engine.ecpm_scale "
            "says it (docs/money.md)"
        )
    if money.prices is None:
        return "the log's money is eCPM: expected_ecpm is CPM as it is"
    found = money.found
    lines = [
        f"a thousand of {found['impressions']:,} held-out impressions brought {found['came']:,.2f} "
        f"({found['targets']:,.0f} targets) and are priced {found['priced']:,.2f}"
    ]
    if found["without_impression"]:
        lines.append(f"{found['without_impression']:,} clicks and targets of training followed no impression: left out")
    return "\n".join(lines)
