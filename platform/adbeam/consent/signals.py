"""Whether the signals of a request let its person's data be used, and else the reason.

Every signal that is told must allow it, and one that cannot be read does not. What is told twice, in the places of
OpenRTB 2.5 and 2.6, counts twice. Without any signal everything is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from adbeam.consent.bits import Unreadable
from adbeam.consent.config import PrivacyConfig
from adbeam.consent.gpp import read_gpp
from adbeam.consent.tcf import forbidden_by_tcf
from adbeam.consent.us_privacy import has_opted_out
from adbeam.consent.us_sections import LAYOUTS, forbidden_by_section

TCF_EU, US_PRIVACY = 2, 6
"""Sections of a GPP string that are strings of their own, too."""
OF_THE_STRING = frozenset((3, 4))
"""Sections that are no law's: the header, the signature."""
MOST_SIDS = 64

REASONS: dict[str, str] = {
    "coppa": "The page is for children (`coppa`).",
    "lmt": "The device limits ad tracking (`lmt`).",
    "dnt": "The device asks not to be tracked (`dnt`).",
    "gpc": "Global Privacy Control is set, as a field or in a US section.",
    "signals_unreadable": "An object that holds signals is no object, or a flag or string is too long to be one.",
    "gdpr_no_consent_string": "GDPR applies and no TCF string was sent.",
    "gdpr_no_vendor_id": "GDPR applies, or a TCF string was sent, and `privacy.vendor_id` is not set.",
    "tcf_unreadable": "The TCF string is damaged, of another version, or longer than 8,192 characters.",
    "tcf_global_scope": "The TCF string is of the global scope, which is no longer valid.",
    "tcf_not_disclosed": "The person was not told of the vendor, or a string since March 2026 does not say.",
    "tcf_vendor": "The person does not allow the vendor.",
    "tcf_purpose": "The person does not allow one of the purposes.",
    "tcf_restricted": "The publisher does not allow the vendor one of the purposes, or not on its legal basis.",
    "gpp_unreadable": "The GPP string, its list of sections or one of its sections is damaged or too long.",
    "gpp_missing": "A section that applies is not in the GPP string.",
    "gpp_section": "A section that applies is not one that is read.",
    "us_privacy": "The US Privacy string says that the person has opted out of the sale of their data.",
    "us_privacy_unreadable": "The US Privacy string is none.",
    "us_sale": "A US section says that the person has opted out of the sale of their data.",
    "us_sharing": "A US section says that the person has opted out of sharing.",
    "us_targeted_advertising": "A US section says that the person has opted out of targeted advertising.",
    "us_no_notice": "A US section says that the person was not told of their rights.",
    "us_child": "A US section says that the person is a child without the consent that is needed.",
    "us_service_provider": "A US section says that the publisher allows service providers only.",
}
"""Why somebody's data may not be used, and what each means."""

Told = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Signals:
    """What was told, a value a place; None and empty texts are not told."""

    gdpr: Told = ()
    tcf: Told = ()
    gpp: Told = ()
    gpp_sid: Told = ()
    us_privacy: Told = ()
    coppa: Told = ()
    lmt: Told = ()
    dnt: Told = ()
    gpc: Told = ()
    is_unreadable: bool = False
    """Whether an object that would hold signals is none."""


def forbidden_by(signals: Signals, rules: PrivacyConfig) -> str | None:
    """Why the person's data may not be used, one of REASONS; None where it may."""
    if signals.is_unreadable:
        return "signals_unreadable"
    for flag in ("coppa", "lmt", "dnt", "gpc"):
        if any(map(is_set, getattr(signals, flag))):
            return flag
    return _by_us_privacy(_strings(signals.us_privacy)) or _by_frameworks(signals, rules)


def is_set(flag: Any) -> bool:
    """Whether a flag is set; one that cannot be read is."""
    return flag not in (None, 0, "0", "")


def _by_frameworks(signals: Signals, rules: PrivacyConfig) -> str | None:
    strings = _strings(signals.tcf)
    try:
        sections, applying = _sections(signals)
    except Unreadable:
        return "gpp_unreadable"
    missing = applying - {section for section, _ in sections}
    stood_in = {TCF_EU: bool(strings), US_PRIVACY: bool(_strings(signals.us_privacy))}
    if any(not stood_in.get(section) for section in missing):
        return "gpp_missing"
    applies = TCF_EU in applying or any(map(is_set, signals.gdpr))
    is_denied = not applies and any(value is not None and value != "" for value in signals.gdpr)
    for section, text in sections:
        if section == TCF_EU:
            strings.append(text)
        elif reason := _by_section(section, text, rules):
            return reason
    if is_denied or not (applies or strings):
        return None
    return _by_tcf(strings, rules)


def _by_tcf(strings: list[Any], rules: PrivacyConfig) -> str | None:
    if not strings:
        return None if rules.gdpr_without_consent_string == "allow" else "gdpr_no_consent_string"
    if rules.vendor_id is None:
        return "gdpr_no_vendor_id"
    for text in strings:
        try:
            reason = forbidden_by_tcf(text, rules.vendor_id, rules) if isinstance(text, str) else "tcf_unreadable"
        except Unreadable:
            reason = "tcf_unreadable"
        if reason:
            return reason
    return None


def _by_us_privacy(strings: Iterable[Any]) -> str | None:
    for text in strings:
        try:
            if not isinstance(text, str):
                return "us_privacy_unreadable"
            if has_opted_out(text):
                return "us_privacy"
        except Unreadable:
            return "us_privacy_unreadable"
    return None


def _by_section(section: int, text: str, rules: PrivacyConfig) -> str | None:
    if section == US_PRIVACY:
        return _by_us_privacy([text])
    if section not in LAYOUTS:
        return "gpp_section"
    try:
        return forbidden_by_section(section, text, rules.us_opt_outs)
    except Unreadable:
        return "gpp_unreadable"


def _sections(signals: Signals) -> tuple[list[tuple[int, str]], set[int]]:
    """The sections that count, and the ids that are said to apply; all of a string count where nothing is said.

    Raises Unreadable.
    """
    told = {section for value in signals.gpp_sid if value not in (None, "", []) for section in _sids(value)}
    if told and max(told) <= 0:  # -1 or 0: no section applies
        return [], set()
    applying = {section for section in told if section > 0} - OF_THE_STRING
    found = []
    for text in _strings(signals.gpp):
        if not isinstance(text, str):
            raise Unreadable("no text")
        found += [(id_, part) for id_, part in read_gpp(text).items() if not applying or id_ in applying]
    return found, applying


def _sids(value: Any) -> set[int]:
    """Ids of sections, as a list or as exchanges write it into one text: "2_6", "2,6"."""
    if isinstance(value, str) and len(value) < MOST_SIDS * 8:
        value = value.replace("_", ",").split(",")
    entries = value if isinstance(value, list) else [value]
    if len(entries) > MOST_SIDS:
        raise Unreadable("too many sections")
    return set(map(_sid, entries))


def _sid(entry: Any) -> int:
    try:
        number = None if isinstance(entry, bool | list | dict) else float(entry)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not number.is_integer():
        raise Unreadable("no id of a section")
    return int(number)


def _strings(told: Told) -> list[Any]:
    return [text for text in told if text is not None and text != ""]
