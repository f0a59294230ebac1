"""Settings of what an answer may hold, and how often: sections `list_rules` and `frequency_caps` of serving."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from adbeam.settings import Section

MOST_ADS = 1000
"""No answer is longer, so that a larger number would be no rule."""


class ListRulesConfig(Section):
    """At most so many ads of one advertiser, campaign, category or semantic ID in an answer; null: any number.

    Ads of which it is not known are not counted.
    """

    most_per_advertiser: int | None = Field(None, ge=1, le=MOST_ADS, description="Ads of one advertiser.")
    most_per_campaign: int | None = Field(None, ge=1, le=MOST_ADS, description="Ads of one campaign.")
    most_per_category: int | None = Field(None, ge=1, le=MOST_ADS, description="Ads of one category.")
    most_per_sid: int | None = Field(None, ge=1, le=MOST_ADS, description="Ads of one semantic ID.")

    @property
    def most(self) -> dict[str, int]:
        """The numbers that are set: {advertiser: 2, sid: 1}."""
        found = {name.removeprefix("most_per_"): value for name, value in self}
        return {name: value for name, value in found.items() if value is not None}


MOST_HOURS = 24 * 366
MOST_CAPS = 16


class FrequencyCap(Section):
    """At most `most` impressions of one ad, or of the ads of one campaign or advertiser, to a user in so many hours."""

    of: Literal["ad", "campaign", "advertiser"]
    most: int = Field(ge=1, le=100_000, description="Impressions after which it is shown no more.")
    hours: float = Field(gt=0, le=MOST_HOURS, description="How long an impression counts.")


CapsUnread = Annotated[
    Literal["show", "withhold"],
    Field(
        description="Where a user's history cannot be read in time. show: caps do not hold; withhold: no ad is shown "
        "that a cap might hold for.",
    ),
]
FrequencyCaps = Annotated[
    tuple[FrequencyCap, ...],
    Field(
        max_length=MOST_CAPS,
        description="[{of: ad | campaign | advertiser, most: 3, hours: 24}]: impressions of one user, as events "
        "told them (docs/list-rules.md). All must hold.",
    ),
]
