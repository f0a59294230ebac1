"""Money of other currencies, by the rates that the operator declares."""

from __future__ import annotations

from collections.abc import Sequence

from adbeam.serving.openrtb.config import OpenRtbConfig


def rate_of(currency: str, config: OpenRtbConfig) -> float | None:
    """What one unit of a currency is worth in the configured one; None where nobody said."""
    name = currency.upper()
    return 1.0 if name == config.currency else config.rates.get(name)


def bid_currency(accepted: Sequence[str], config: OpenRtbConfig) -> tuple[str, float] | None:
    """(currency of the bids, its rate): the configured one where a request takes it, else the first that has a rate;
    None where it takes none of those."""
    if not accepted:
        return config.currency, 1.0
    names = [name.upper() for name in accepted]
    if config.currency in names:
        return config.currency, 1.0
    return next(((name, rate) for name in names if (rate := config.rates.get(name)) is not None), None)


def floor_of(floor: float, currency: str, config: OpenRtbConfig) -> float | None:
    """A floor in the configured currency; None where it is in one without a rate. A floor of nothing is one in any."""
    if floor == 0:
        return 0.0
    rate = rate_of(currency, config)
    return None if rate is None else floor * rate
