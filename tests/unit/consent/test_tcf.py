"""TC strings: public examples, every field that counts, and what is damaged."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.serving.consent_strings import VENDOR, bits_of, disclosed, ranges, tc_string, vendors

from adbeam.consent.bits import LONGEST, Unreadable
from adbeam.consent.config import PrivacyConfig
from adbeam.consent.tcf import VendorConsent, forbidden_by_tcf, read_tcf
from adbeam.errors import UserError

EMPTY = "CPSG_8APSG_8AAAAAAENAACgAAAAAAAAAAAAAAAAAAAA.YAAAAAAAAAAA"
ALL_BUT_RESTRICTED = (
    "CPi8wgAPi8wgAAOACBENCuCoAP_AAEfAACiQJHNd_H__bX9n-f7_6ft0eY1f9_r37uQzDhfNk-8F3L_W_LwX_2E7NF36tq4KmR4ku1LBIUNtHMnU"
    "DUmxaokVrzHsak2cpzNKJ_BkknsZe2dYGF9vm5tj-QKZ7_5_d3f52T_9_9v-39z33913v3d93-_13LjdV5_9H_v9fR_b8_Kf9_5-_4v8_____3_e_"
    "_____8AEEggCTDVuIAuxLHAm0DCKBECMKwkKoFABBQDC0QGADg4KdlYBPrCBAAgFAEYEQIcAUYEAgAAAgCQiACQIsEAAAIgEAAIAEQiEABAwCCgA"
    "sDAIAAQDQMUQoABAkIMiAiKUwICIEggJbKhBKC6Q0wgCrLACgkRsFAAiAAAUgACAsHAMESAlYsECTFG-QAjBCgFEqFaAGGgAwABBI4RABgACCRwq"
    "ADAAEEjgA"
)
FROM_THE_SPECIFICATION = "CLcVDxRMWfGmWAVAHCENAXCkAKDAADnAABRgA5mdfCKZuYJez-NQm0TBMYA4oCAAGQYIAAAAAAEAIAEgAA"
DISCLOSING = (
    "CPcqBNJPcqBNJNwAAAENAwCAAAAAAAAAAAAAAAAAAAAA.YAAAAAAAAAA.QGLtV_T9fb2vj-_Z99_tkeYwf95y3p-wzhheMs-8NyZeH_B4Wv2MyvBX"
    "4JiQKGRgksjLBAQdtHGlcTQgBwIlViTLMYk2MjzNKJrJEilsbO2dYGD9Pn8HT3ZCY70-vv__7v3ff_3g.IGLtV_T9fb2vj-_Z99_tkeYwf95y3p-w"
    "zhheMs-8NyZeH_B4Wv2MyvBX4JiQKGRgksjLBAQdtHGlcTQgBwIlViTLMYk2MjzNKJrJEilsbO2dYGD9Pn8HT3ZCY70-vv__7v3ff_3g"
)
"""Strings that IAB Tech Lab's own tests and specification publish."""


def test_the_empty_string_of_the_libraries() -> None:
    said = read_tcf(EMPTY, VENDOR)
    created_ds = int(datetime(2022, 1, 1, tzinfo=UTC).timestamp() * 10)
    assert said == VendorConsent(created_ds, True, frozenset(), frozenset(), False, False, {}, None)


def test_a_string_of_a_site_with_restrictions() -> None:
    said = read_tcf(ALL_BUT_RESTRICTED, 2)
    assert said.consents == set(range(1, 11)) and said.interests == {2, 6, 7, 8, 9, 10}
    assert said.has_consent and not said.has_interest and said.is_service_specific
    assert said.restrictions == {3: {1}, 4: {1}, 5: {1}}
    assert read_tcf(ALL_BUT_RESTRICTED, 65_535).restrictions == {} and not read_tcf(ALL_BUT_RESTRICTED, 3).has_interest


def test_the_example_of_the_specification_and_its_restrictions() -> None:
    assert read_tcf(FROM_THE_SPECIFICATION, 2).consents == {1, 3, 9, 10}
    assert read_tcf(FROM_THE_SPECIFICATION, 2).interests == {3, 4, 5, 8, 9, 10}


@pytest.mark.parametrize(
    ("vendor", "told"), [(1, True), (2, True), (3, False), (4, True), (782, True), (787, False), (792, False)]
)
def test_the_vendors_that_a_string_discloses(vendor: int, told: bool) -> None:
    assert read_tcf(DISCLOSING, vendor).is_disclosed is told


RULES = PrivacyConfig.parse({"vendor_id": VENDOR})
FLEXIBLE: dict[str, Any] = {"consent_purposes": [1, 3, 4], "legitimate_interest_purposes": [7, 10]}
BOTH = PrivacyConfig.parse(FLEXIBLE)
EITHER = PrivacyConfig.parse({**FLEXIBLE, "flexible_purposes": [7, 10]})
WITHOUT = vendors([VENDOR - 1, VENDOR + 1])
BEFORE = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("reason", "changes", "rules"),
    [
        (None, {}, RULES),
        (None, {"purposes": range(1, 12)}, RULES),
        (None, {"consent": vendors(as_ranges=[(1, 5), (650, 800)])}, RULES),
        (None, {"consent": vendors(as_ranges=[(VENDOR, VENDOR)])}, RULES),
        ("tcf_vendor", {"consent": WITHOUT}, RULES),
        ("tcf_vendor", {"consent": vendors([])}, RULES),
        ("tcf_vendor", {"consent": vendors([VENDOR - 1])}, RULES),
        ("tcf_vendor", {"consent": vendors(as_ranges=[(1, 699), (701, 900)])}, RULES),
        ("tcf_vendor", {"consent": vendors([]), "interest": vendors([VENDOR]), "interests": range(1, 12)}, RULES),
        ("tcf_purpose", {"purposes": (3, 4, 7, 10)}, RULES),
        ("tcf_purpose", {"purposes": (1, 3, 4, 7)}, RULES),
        ("tcf_purpose", {"purposes": ()}, RULES),
        ("tcf_global_scope", {"service_specific": 0}, RULES),
        ("tcf_not_disclosed", {"segments": ()}, RULES),
        ("tcf_not_disclosed", {"segments": (disclosed([1, 2]),)}, RULES),
        ("tcf_not_disclosed", {"segments": (disclosed([1, 2]),), "created": BEFORE}, RULES),
        (None, {"segments": (), "created": BEFORE}, RULES),
        ("tcf_restricted", {"restrictions": [(3, 0, [(600, 800)])]}, RULES),
        ("tcf_restricted", {"restrictions": [(3, 3, [(VENDOR, VENDOR)])]}, RULES),
        (None, {"restrictions": [(3, 0, [(1, 699)]), (5, 0, [(VENDOR, VENDOR)])]}, RULES),
        (None, {"restrictions": [(3, 1, [(VENDOR, VENDOR)])]}, RULES),
        ("tcf_restricted", {"restrictions": [(7, 2, [(VENDOR, VENDOR)])]}, RULES),
        ("tcf_restricted", {"restrictions": [(7, 1, [(1, 800)]), (7, 2, [(VENDOR, VENDOR)])]}, RULES),
        ("tcf_vendor", {}, BOTH),
        (None, {"interest": vendors([VENDOR]), "interests": (7, 10)}, BOTH),
        ("tcf_purpose", {"interest": vendors([VENDOR]), "interests": (7,)}, BOTH),
        ("tcf_restricted",
         {"interest": vendors([VENDOR]), "interests": (7, 10), "restrictions": [(7, 1, [(1, 800)])]}, BOTH),
        (None, {"interest": vendors([VENDOR]), "interests": (10,), "restrictions": [(7, 1, [(1, 800)])]}, EITHER),
        ("tcf_purpose",
         {"purposes": (1, 3, 4), "interest": vendors([VENDOR]), "interests": (7, 10),
          "restrictions": [(7, 1, [(1, 800)])]}, EITHER),
    ],
)  # fmt: skip
def test_what_a_string_allows(reason: str | None, changes: dict[str, Any], rules: PrivacyConfig) -> None:
    assert forbidden_by_tcf(tc_string(**changes), VENDOR, rules) == reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "C",
        "null",
        "BOJObISOJObISAABAAENAA4AAAAAoAAA",  # version 1
        EMPTY.partition(".")[0][:-2],
        tc_string()[:40],
        tc_string() + "=",
        " " + tc_string(),
        tc_string().replace(".", "+"),
        tc_string(version=1),
        tc_string(version=3),
        tc_string(policy=1),
        tc_string(more="0" * 5 + "1"),
        tc_string(segments=(disclosed([VENDOR]), disclosed([VENDOR]))),
        tc_string(segments=("gAAA",)),  # a segment of an unknown type
        tc_string(segments=("",)),
        tc_string(segments=("YAAA",) * 9),
        tc_string(consent=vendors(as_ranges=[(9, 3)])),
        tc_string(consent=vendors(as_ranges=[(0, 0)])),
        tc_string(restrictions=[(3, 0, [(5, 2)])]),
        tc_string().partition(".")[0] + "é",
        "C" * (LONGEST + 1),
        "C" * 1_000_000,
    ],
)
def test_what_is_damaged_is_not_read(text: str) -> None:
    with pytest.raises(Unreadable):
        read_tcf(text, VENDOR)


def test_every_cut_of_a_string_is_unreadable_or_forbids() -> None:
    text = tc_string()
    for end in range(len(text)):
        try:
            assert forbidden_by_tcf(text[:end], VENDOR, RULES) is not None
        except Unreadable:
            continue


def test_a_string_of_all_ranges_that_fit_is_read() -> None:
    many = tc_string(consent=vendors(as_ranges=[(n, n) for n in range(1, 2801)]))
    assert 7900 < len(many) <= LONGEST
    assert forbidden_by_tcf(many, VENDOR, RULES) is None
    assert len(bits_of(many.partition(".")[0])) > len(ranges([(n, n) for n in range(1, 2801)]))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"legitimate_interest_purposes": [3]}, "need consent"),
        ({"legitimate_interest_purposes": [7]}, "keep one of the two"),
        ({"flexible_purposes": [1]}, "must not be 1, 3, 4, 5 or 6"),
        ({"flexible_purposes": [2]}, "must stand in one of the other lists"),
        ({"consent_purposes": []}, "name the purposes"),
        ({"consent_purposes": [12]}, "consent_purposes"),
        ({"vendor_id": 0}, "vendor_id"),
        ({"vendor": 7}, "did you mean 'vendor_id'"),
    ],
)
def test_settings_that_cannot_be_are_named(told: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        PrivacyConfig.parse(told)
