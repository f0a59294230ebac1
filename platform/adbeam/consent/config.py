"""Section `privacy` of serving: under which number and for which purposes people's data is used."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from adbeam.settings import Section

Purpose = Annotated[int, Field(ge=1, le=11)]
ONLY_CONSENT = frozenset((1, 3, 4, 5, 6))
"""Purposes for which TCF 2.2 knows no legitimate interest."""
OptOut = Literal["sale", "sharing", "targeted_advertising"]


class PrivacyConfig(Section):
    """Whose signals let a person's history and profile be used (docs/privacy.md)."""

    vendor_id: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Your number in IAB Europe's Global Vendor List; null: where GDPR applies nobody is looked up.",
    )
    consent_purposes: tuple[Purpose, ...] = Field(
        (1, 3, 4, 7, 10), description="TCF purposes that all need the person's consent."
    )
    legitimate_interest_purposes: tuple[Purpose, ...] = Field(
        (), description="TCF purposes for which you claim a legitimate interest, to which the person must not object."
    )
    flexible_purposes: tuple[Purpose, ...] = Field(
        (), description="Those of both for which a publisher may ask for the other legal basis."
    )
    gdpr_without_consent_string: Literal["forbid", "allow"] = Field(
        "forbid", description="What holds where GDPR applies and no TCF string is sent."
    )
    us_opt_outs: tuple[OptOut, ...] = Field(
        ("sale", "sharing", "targeted_advertising"), description="Opt-outs of US states that forbid to look up."
    )

    @model_validator(mode="after")
    def _purposes_agree(self) -> Self:
        consent, interest = set(self.consent_purposes), set(self.legitimate_interest_purposes)
        if wrong := sorted(interest & ONLY_CONSENT):
            raise ValueError(f"legitimate_interest_purposes: {wrong} need consent; move them to consent_purposes")
        if both := sorted(consent & interest):
            raise ValueError(f"{both} stand in consent_purposes and legitimate_interest_purposes; keep one of the two")
        if odd := sorted(set(self.flexible_purposes) - ((consent | interest) - ONLY_CONSENT)):
            raise ValueError(
                f"flexible_purposes: {odd} must stand in one of the other lists and must not be 1, 3, 4, 5 or 6"
            )
        if not consent | interest:
            raise ValueError("consent_purposes is empty: name the purposes that you use people's data for")
        return self
