"""US sections of a GPP string: the national one and those of states (usnat, usca, usva, usco, usut, usct, ...).

After the specifications of the sections in IAB Tech Lab's "Global Privacy Platform". Every field is two bits behind a
version of six, and 0 where it does not apply: a notice 1 was given, 2 was not; an opt-out 1 opted out, 2 did not; a
consent 1 is none, 2 is one. A segment of its own may hold Global Privacy Control.
"""

from __future__ import annotations

from collections.abc import Collection

from adbeam.consent.bits import Bits, Unreadable

VERSION, GPC = 1, 1

NOTICE, SALE, SHARING, TARGETED, CHILD, PROVIDER, OTHER = "N", "S", "H", "T", "C", "P", "."
"""Fields by what counts of them; of OTHER (sensitive data and what is of the contract alone) nothing does."""
_MSPA = "..P"
"""Covered transaction, opt-out option mode, service provider mode."""

LAYOUTS: dict[int, tuple[str, ...]] = {
    7: ("NNNN..SHT" + 12 * "." + "CC." + _MSPA, "NNNN..SHT" + 16 * "." + "CCC." + _MSPA),  # usnat, before 2025 and now
    8: ("NN.SH" + 9 * "." + "CC." + _MSPA,),  # usca
    9: ("NNNST" + 8 * "." + "C" + _MSPA,),  # usva
    10: ("NNNST" + 7 * "." + "C" + _MSPA,),  # usco
    11: ("NNN.ST" + 8 * "." + "C" + _MSPA,),  # usut
    12: ("NNNST" + 8 * "." + "CCC" + _MSPA,),  # usct
    13: ("NNNST" + 8 * "." + "CCC." + _MSPA,),  # usfl
    14: ("NNNST" + 8 * "." + "CCC." + _MSPA,),  # usmt
    15: ("NNNST" + 11 * "." + "CCC." + _MSPA,),  # usor
    16: ("NNNST" + 8 * "." + "C." + _MSPA,),  # ustx
    17: ("NNNST" + 9 * "." + "CCCCC." + _MSPA,),  # usde
    18: ("NNN.ST" + 8 * "." + "C" + _MSPA,),  # usia
    19: ("NNNST" + 8 * "." + "C." + _MSPA,),  # usne
    20: ("NNNST" + 8 * "." + "CCC." + _MSPA,),  # usnh
    21: ("NNNST" + 10 * "." + "CCCCC." + _MSPA,),  # usnj
    22: ("NNNST" + 8 * "." + "C." + _MSPA,),  # ustn
    23: ("NNNST" + 8 * "." + "C." + _MSPA,),  # usmn
}
"""The fields of each section that is read, behind its version."""

_REASONS = {
    (SALE, 1): "us_sale",
    (SHARING, 1): "us_sharing",
    (TARGETED, 1): "us_targeted_advertising",
    (NOTICE, 2): "us_no_notice",
    (CHILD, 1): "us_child",
    (PROVIDER, 1): "us_service_provider",
}
_OF_OPT_OUT = {SALE: "sale", SHARING: "sharing", TARGETED: "targeted_advertising"}


def forbidden_by_section(section: int, text: str, opt_outs: Collection[str]) -> str | None:
    """Why a US section forbids to use the person's data, None where it allows it; of opt-outs only `opt_outs` count.

    Raises Unreadable, KeyError for a section that is not in LAYOUTS.
    """
    core, *others = text.split(".", 2)
    bits = Bits(core)
    layouts = LAYOUTS[section]
    fitting = [layout for layout in layouts if 2 * len(layout) <= bits.left - 6]
    if not fitting or bits.number(6) != VERSION:
        raise Unreadable("cut off, or of another version")
    found = None
    for field in max(fitting, key=len):
        value = bits.number(2)
        if value == 3:
            raise Unreadable("a value that is none")
        if _OF_OPT_OUT.get(field, "sale") in opt_outs or field not in _OF_OPT_OUT:
            found = found or _REASONS.get((field, value))
    bits.end()
    for other in others:
        if _has_gpc(other):
            found = found or "gpc"
    return found


def _has_gpc(text: str) -> bool:
    bits = Bits(text)
    if bits.number(2) != GPC:
        raise Unreadable("a segment that is unknown")
    is_set = bits.flag()
    bits.end()
    return is_set
