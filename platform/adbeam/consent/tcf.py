"""TCF strings of versions 2.0 to 2.3: what a person and a publisher allow one vendor (TC string).

After "IAB Tech Lab - Consent string and vendor list formats v2". Of the segments the core and the disclosed vendors
count; the publisher's own purposes are not a vendor's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adbeam.consent.bits import LONGEST, Bits, Unreadable
from adbeam.consent.config import PrivacyConfig

DISCLOSED, ALLOWED, PUBLISHER = 1, 2, 3
"""Types of segments."""
NOT_ALLOWED, NEEDS_CONSENT, NEEDS_INTEREST = 0, 1, 2
"""Types of publisher restrictions."""
MUST_DISCLOSE_DS = 17_723_232_000
"""Deciseconds since 1970 at the end of 2026-02-28 UTC: strings made since must hold the disclosed vendors (TCF 2.3)."""


@dataclass(frozen=True, slots=True)
class VendorConsent:
    """What a TC string says of one vendor."""

    created_ds: int
    """Deciseconds since 1970, UTC."""
    is_service_specific: bool
    consents: frozenset[int]
    """Purposes that the person consents to."""
    interests: frozenset[int]
    """Purposes with a legitimate interest that the person was told of and does not object to."""
    has_consent: bool
    has_interest: bool
    """The same of the vendor."""
    restrictions: Mapping[int, frozenset[int]]
    """Publisher restrictions of the vendor: their types, by purpose."""
    is_disclosed: bool | None
    """None where the string does not say."""


def read_tcf(text: str, vendor_id: int) -> VendorConsent:
    """The string as it is for one vendor; raises Unreadable."""
    core, *others = text.split(".", 4) if len(text) <= LONGEST else ("",)
    bits = Bits(core)
    if bits.number(6) != 2:
        raise Unreadable("no TC string of version 2")
    created_ds = bits.number(36)
    bits.take(36 + 12 + 12 + 6 + 12 + 12)  # last update, CMP, its version, screen, language, vendor list
    if bits.number(6) < 2:
        raise Unreadable("a policy before version 2")
    is_service_specific = bits.flag()
    bits.take(1 + 12)  # non-standard texts, special features
    consents, interests = bits.numbers_set(24), bits.numbers_set(24)
    bits.take(1 + 12)  # whether purpose 1 was asked for, the publisher's country
    has_consent, has_interest = _names(bits, vendor_id), _names(bits, vendor_id)
    restrictions = _restrictions(bits, vendor_id)
    bits.end()
    disclosed = _disclosed(others, vendor_id)
    return VendorConsent(
        created_ds, is_service_specific, consents, interests, has_consent, has_interest, restrictions, disclosed
    )


def forbidden_by_tcf(text: str, vendor_id: int, rules: PrivacyConfig) -> str | None:
    """Why the string forbids the purposes of `rules`, None where it allows all; raises Unreadable."""
    said = read_tcf(text, vendor_id)
    if not said.is_service_specific:
        return "tcf_global_scope"  # no longer valid, since anybody could have written it
    if said.is_disclosed is False or (said.is_disclosed is None and said.created_ds >= MUST_DISCLOSE_DS):
        return "tcf_not_disclosed"
    for purpose in (*rules.consent_purposes, *rules.legitimate_interest_purposes):
        if reason := _purpose_forbidden(said, purpose, rules):
            return reason
    return None


def _purpose_forbidden(said: VendorConsent, purpose: int, rules: PrivacyConfig) -> str | None:
    by_consent = purpose in rules.consent_purposes
    types = said.restrictions.get(purpose, frozenset())
    if types:
        other = NEEDS_INTEREST if by_consent else NEEDS_CONSENT
        if len(types) > 1 or not types <= {NEEDS_CONSENT, NEEDS_INTEREST}:
            return "tcf_restricted"
        if other in types:
            if purpose not in rules.flexible_purposes:
                return "tcf_restricted"
            by_consent = not by_consent
    allowed, is_vendor = (said.consents, said.has_consent) if by_consent else (said.interests, said.has_interest)
    if not is_vendor:
        return "tcf_vendor"
    return None if purpose in allowed else "tcf_purpose"


def _names(bits: Bits, vendor_id: int) -> bool:
    """Whether a list of vendors names one: a bit each, or ranges."""
    most = bits.number(16)
    if bits.flag():
        return _in_ranges(bits, vendor_id)
    named = bits.take(most)
    return vendor_id <= most and named[vendor_id - 1] == "1"


def _in_ranges(bits: Bits, vendor_id: int) -> bool:
    found = False
    for _ in range(bits.number(12)):
        is_range, first = bits.flag(), bits.number(16)
        last = bits.number(16) if is_range else first
        if not 1 <= first <= last:
            raise Unreadable("a range that is none")
        found = found or first <= vendor_id <= last
    return found


def _restrictions(bits: Bits, vendor_id: int) -> dict[int, frozenset[int]]:
    found: dict[int, frozenset[int]] = {}
    for _ in range(bits.number(12)):
        purpose, kind = bits.number(6), bits.number(2)
        if _in_ranges(bits, vendor_id):
            found[purpose] = found.get(purpose, frozenset()) | {kind}
    return found


def _disclosed(segments: list[str], vendor_id: int) -> bool | None:
    found = None
    for text in segments:
        bits = Bits(text)
        kind = bits.number(3)
        if kind == DISCLOSED and found is None:
            found = _names(bits, vendor_id)
            bits.end()
        elif kind not in (ALLOWED, PUBLISHER):
            raise Unreadable("a segment that is unknown, or twice there")
    return found
