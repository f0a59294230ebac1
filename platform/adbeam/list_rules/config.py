"""Settings of what an answer may hold: section `list_rules` of serving."""

from __future__ import annotations

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
