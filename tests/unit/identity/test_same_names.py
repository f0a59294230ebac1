"""Which names of advertisers and categories mean the same."""

from __future__ import annotations

import pytest

from adbeam.identity.names import advertiser, advertiser_names, category_names


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("North", "north"), (" north ", "north"), ("NORTH WEST Ltd.", "north west ltd."),
        ("Example.com", "example.com"), ("www.example.com", "example.com"), ("example.com.", "example.com"),
        ("https://WWW.Example.com:443/page?q=1", "example.com"), ("http://user@example.com", "example.com"),
        ("example.com/page", "example.com"), ("bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"), ("Dr. Oetker: more", "dr. oetker: more"), ("", ""),
        ("www.com", "com"), ("a..b", "a..b"),
    ],
)  # fmt: skip
def test_an_advertiser_has_one_form(name: str, form: str) -> None:
    assert advertiser(name) == form


def test_a_domain_is_meant_by_those_above_it_but_not_by_a_bare_ending() -> None:
    assert advertiser_names("Shop.Example.co.uk") == ("shop.example.co.uk", "example.co.uk", "co.uk")
    assert advertiser_names("North") == ("north",) and advertiser_names("Dr. Best") == ("dr. best",)


def test_a_category_is_meant_by_those_above_it_in_the_first_taxonomy() -> None:
    assert category_names("IAB1-2") == ("iab1-2", "iab1")
    assert category_names("IAB12") == ("iab12",), "IAB1 is no prefix of it"
    assert category_names("Tea-2") == ("tea-2",) and category_names(" Tea ") == ("tea",)
