"""Privacy signals at the border: as fields of requests, events and profiles, and in the places of a bid request.

Who must not be looked up is counted by reason. Consent strings are read and forgotten: none is kept or logged.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from adbeam.consent.bits import LONGEST
from adbeam.consent.config import PrivacyConfig
from adbeam.consent.signals import MOST_SIDS, Signals, forbidden_by, is_set
from adbeam.recorder import Recorder

Flag = bool | Literal[0, 1]
Text = Annotated[str, StringConstraints(max_length=LONGEST)]
PRIVACY = "The person's signals; where they forbid it, the person is nobody here (docs/privacy.md)."


class PrivacySignals(BaseModel):
    """What a person, their device or the page says of the use of their data; what is absent or empty says nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    gdpr: Flag | None = Field(None, description="Whether GDPR applies.")
    tcf: Text | None = Field(None, description="TCF string (TC string), version 2.")
    gpp: Text | None = Field(None, description="GPP string.")
    gpp_sid: list[Annotated[int, Field(ge=-1, le=1 << 20)]] | None = Field(
        None, max_length=MOST_SIDS, description="Sections of it that apply; absent: all of them."
    )
    us_privacy: Text | None = Field(None, description="US Privacy string, such as 1YNN.")
    coppa: Flag | None = Field(None, description="Whether the page is for children.")
    lmt: Flag | None = Field(None, description="Whether the device limits ad tracking.")
    dnt: Flag | None = Field(None, description="Whether the device asks not to be tracked.")
    gpc: Flag | None = Field(None, description="Whether Global Privacy Control is set.")

    def signals(self) -> Signals:
        """The same as they are judged."""
        told: dict[str, Any] = {name: (getattr(self, name),) for name in self.model_fields_set}
        return Signals(**told)


class PrivacyGate:
    """Says of people whether they must not be looked up, kept or logged."""

    def __init__(self, rules: PrivacyConfig, metrics: Recorder) -> None:
        self._rules, self._metrics = rules, metrics

    def forbids(self, told: PrivacySignals | None) -> bool:
        """Whether told signals forbid it, counted."""
        return told is not None and self._counted(told.signals())

    def forbids_bid(self, request: Any) -> bool:
        """Whether the signals of a bid request (its `regs`, `device` and `user`) forbid it, counted."""
        regs, device, user = request.regs, request.device, request.user
        says_nothing = not regs and (user is None or not (user.consent or user.ext))
        if says_nothing and not (isinstance(device, dict) and (is_set(device.get("lmt")) or is_set(device.get("dnt")))):
            return False
        return self._counted(_of_bid(regs, device, user))

    def _counted(self, signals: Signals) -> bool:
        reason = forbidden_by(signals, self._rules)
        if reason is None:
            return False
        self._metrics.add("adbeam_forbidden_users", reason=reason)
        return True


def _of_bid(regs: Any, device: Any, user: Any) -> Signals:
    """The signals of a bid request in the places of OpenRTB 2.6 and, in `ext`, of 2.5."""
    regs_ext = regs.get("ext") if isinstance(regs, dict) else None
    consent, user_ext = (None, None) if user is None else (user.consent, user.ext)
    of_regs = {
        name: tuple(part.get(name) for part in (regs, regs_ext) if isinstance(part, dict))
        for name in ("gdpr", "gpp", "gpp_sid", "us_privacy", "coppa", "gpc")
    }
    return Signals(
        **of_regs,
        tcf=(consent, user_ext.get("consent") if isinstance(user_ext, dict) else None),
        **{name: (device.get(name),) if isinstance(device, dict) else () for name in ("lmt", "dnt")},
        is_unreadable=any(part and not isinstance(part, dict) for part in (regs, regs_ext, user_ext)),
    )
