"""Money of other currencies, by the rates that the operator declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from adbeam.serving.openrtb.config import OpenRtbConfig


class Money(NamedTuple):
    """What a response is bid in: a currency, and what one unit of it is worth in the configured one."""

    currency: str
    rate: float = 1.0


def rate_of(currency: str, config: OpenRtbConfig) -> float | None:
    """What one unit of a currency is worth in the configured one; None where nobody said."""
    name = currency.upper()
    return 1.0 if name == config.currency else config.rates.get(name)


def bid_currency(accepted: Sequence[str], config: OpenRtbConfig) -> Money | None:
    """What a request is bid in: the configured currency where it takes that, or says nothing, else the first that has a
    rate; None where it takes none of those."""
    names = [name.upper() for name in accepted]
    if not names or config.currency in names:
        return Money(config.currency)
    return next((Money(name, rate) for name in names if (rate := config.rates.get(name)) is not None), None)


def floor_of(floor: float, currency: str, config: OpenRtbConfig) -> float | None:
    """A floor in the configured currency; None where it is in one without a rate. A floor of nothing is one in any."""
    if floor == 0:
        return 0.0
    rate = rate_of(currency, config)
    return None if rate is None else floor * rate
