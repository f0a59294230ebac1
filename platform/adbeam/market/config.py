"""Settings of the simulated marketplace."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from adbeam.settings import Section


class MarketConfig(Section):
    """A simulated marketplace; what real logs say about one is in adbeam.market.calibration."""

    users: int = Field(3000, ge=2)
    ads: int = Field(2000, ge=8, description="Ads of all days together; each lives for some days.")
    categories: int = Field(24, ge=2)
    brands: int = Field(60, ge=1)
    advertisers: int = Field(150, ge=1)
    interests: int = Field(12, ge=2, description="Dimensions of tastes and ads, of which a recommender sees none.")
    days: int = Field(60, ge=2, description="Days of the log before the market is played.")
    requests_per_user_day: float = Field(1.0, gt=0)
    slots: int = Field(4, ge=1, description="Ads shown for one request.")
    candidates: int = Field(48, ge=2, description="Random live ads that the logging policy chooses from.")
    logging_noise: float = Field(1.0, ge=0, description="Of the logging policy's estimate of log eCPM, std.")

    click_rate: float = Field(0.06, gt=0, lt=1, description="Mean over exposures of the logging policy.")
    conversion_rate: float = Field(0.12, gt=0, lt=1, description="Mean over its clicks.")
    taste_scale: float = Field(2.0, ge=0, description="How far taste moves the logit of a click.")
    intent_scale: float = Field(1.0, ge=0, description="How far taste moves the logit of a conversion.")
    repeat_scale: float = Field(0.0, ge=0, description="How far a user's own hidden favourites move both logits.")

    new_ads_share: float = Field(0.15, ge=0, le=1, description="Ads first shown after half of the days: cold ones.")
    life_days: float = Field(45.0, gt=0, description="Mean life of an ad.")
    drift_period_days: float = Field(90.0, gt=0, description="Tastes turn half way to other ones in this time.")
    season_scale: float = Field(0.5, ge=0, description="How far the season moves a category's logit of a click.")
    budget_impressions: float | None = Field(
        None, gt=0, description="Daily budget of an ad in expected payments of so many impressions; unset: no limit."
    )
    organic_items: int = Field(0, ge=0, description="Items that users look at outside of ads.")
    organic_per_request: float = Field(
        2.0, gt=0, description="Mean organic events before a request, where there are items."
    )
    scenes: Literal[2, 6] = Field(2, description="2: alike; 6: of unlike size, click rate and taste.")
    scene_rotation: float = Field(
        0.5, ge=0, le=1, description="Of six scenes: how far the taste of the smallest is its own."
    )
    segments: int = Field(0, ge=0, le=64, description="Segments of users, which their taste depends on.")
    segment_taste: float = Field(
        0.5, ge=0, le=1, description="How far taste is that of segment and age band, where there are segments."
    )
    targeting: bool = Field(False, description="Ads are for some age bands and regions; about 40 % for a user.")
    delay_hours: float = Field(12.0, ge=0, description="Mean delay of a conversion after its click.")

    @property
    def tells_users(self) -> bool:
        """Whether the log tells what users are."""
        return self.segments > 0 or self.targeting

    @model_validator(mode="after")
    def _slots_fit(self) -> Self:
        if self.slots > self.candidates:
            raise ValueError("slots must not exceed candidates")
        return self
