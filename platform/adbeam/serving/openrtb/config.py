"""Settings of the bid endpoint: section `openrtb` of a serving application."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from adbeam.catalogue.creatives.columns import CreativeColumns
from adbeam.catalogue.creatives.creative import Format
from adbeam.serving.bid_features import Place
from adbeam.serving.openrtb.notices import checked
from adbeam.settings import Section

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
DealId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Notice = Annotated[str, StringConstraints(min_length=1, max_length=2048), AfterValidator(checked)]
FIRST_TAXONOMY = 1
"""AdCOM: the IAB's content taxonomy 1.0, that of a request which names none."""


class DealConfig(Section):
    """A deal that may be bid on."""

    campaigns: tuple[str, ...] | None = Field(None, min_length=1, description="Only ads of these; null: any ad.")
    price_min_cpm: float = Field(0.0, ge=0, allow_inf_nan=False, description="No bid on it below; in the currency.")


class OpenRtbConfig(Section):
    """The bid endpoint, POST /v1/openrtb (docs/openrtb.md)."""

    seat: str = Field("adbeam", min_length=1, description="Seat of the bids.")
    currency: Currency = Field(
        "USD", description="ISO 4217 code of the bids; where the log declared its own (logs.currency), it must be that."
    )
    rates: dict[Currency, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {},
        description="{other currency: what one unit of it is worth in `currency`}: floors in it are converted, and "
        "bids where an exchange takes only such. In other currencies nothing is bid.",
    )
    scenes: dict[str, str] = Field({}, description="{tagid: scene}, beside tagids that are names of scenes.")
    default_scene: str | None = Field(
        None, description="Scene of impressions of other tagids, or none; null: the first of the bundle's."
    )
    network_ms: float = Field(10.0, ge=0, description="Part of tmax kept for the way through the network.")
    price_min_cpm: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Ads whose price is below it are not bid; in the currency."
    )
    price_max_cpm: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Bids above it are bid at it; in the currency. Null: no ceiling."
    )
    deals: dict[DealId, DealConfig] = Field(
        {}, description="Private deals that may be bid on, by their ids; in a private auction nothing else is bid."
    )
    creatives: CreativeColumns = CreativeColumns()
    default_format: Format | None = Field(
        "banner",
        description="Format of ads whose format no column tells; null: they fit any, and the exchange must check.",
    )
    cattax: int = Field(
        FIRST_TAXONOMY, ge=1, description="Taxonomy of the column creatives.categories, by its number in AdCOM."
    )
    eids: dict[str, str] = Field(
        {},
        description="{source of user.eids: what stands before its ids in our user ids, such as ''}, the first that "
        "is there counts: after buyeruid, before the exchange's own user.id.",
    )
    supply_chain: Literal["any", "complete"] = Field(
        "any", description="complete: no bid where the supply chain is missing, incomplete or cannot be read."
    )
    expires_seconds: int | None = Field(None, ge=1, description="How long bids stand, where no column tells: exp.")
    nurl: Notice | None = Field(
        None,
        description="Win notice: a URL with macros of OpenRTB (${AUCTION_PRICE}), which the exchange fills, and ours "
        "({item_id}, {campaign}, {request_id}, {imp_id}, {bid_id}).",
    )
    burl: Notice | None = Field(None, description="Billing notice, as nurl.")
    lurl: Notice | None = Field(None, description="Loss notice, as nurl.")
    features: dict[str, Place | tuple[Place, ...] | None] = Field(
        default={},
        description="{feature: its place in a bid request, such as user.ext.segment, or several of which the first "
        "that says anything counts}, beside the default places (docs/targeting.md); null takes one of those out.",
    )

    @model_validator(mode="after")
    def _floor_below_ceiling(self) -> Self:
        if self.price_max_cpm is not None and self.price_min_cpm > self.price_max_cpm:
            raise ValueError(f"price_min_cpm {self.price_min_cpm} must not exceed price_max_cpm {self.price_max_cpm}")
        return self

    @model_validator(mode="after")
    def _no_rate_of_its_own(self) -> Self:
        if self.currency in self.rates:
            raise ValueError(f"rates.{self.currency} is the rate of `currency` itself: leave it out")
        return self
