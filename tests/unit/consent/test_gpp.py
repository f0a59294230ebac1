"""GPP headers and US sections on the published examples, and what is damaged."""

from __future__ import annotations

import pytest
from tests.support.serving.consent_strings import base64url, fibonacci, gpp_string, number

from adbeam.consent.bits import LONGEST, Unreadable
from adbeam.consent.gpp import MOST_SECTIONS, read_gpp, section_ids
from adbeam.consent.us_privacy import has_opted_out
from adbeam.consent.us_sections import LAYOUTS, forbidden_by_section

OPT_OUTS = ("sale", "sharing", "targeted_advertising")
TCF = "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"


@pytest.mark.parametrize(
    ("header", "ids"),
    [("DBAA", []), ("DBABMA", [2]), ("DBACNYA", [2, 6]), ("DBABLA", [7]), ("DBABTA", [6]), ("DBABBg", [8]),
     ("DBABRg", [9]), ("DBABzw", [6, 7]), ("DBADLO8", [7, 9, 11, 12])],
)  # fmt: skip
def test_headers_that_are_published(header: str, ids: list[int]) -> None:
    assert section_ids(header) == ids


def test_a_whole_string_that_is_published() -> None:
    assert read_gpp(f"DBACNYA~{TCF}~1YNN") == {2: TCF, 6: "1YNN"}
    assert read_gpp(f"DBABMA~{TCF}") == {2: TCF}


@pytest.mark.parametrize("ids", [[2], [6, 7], [7, 8, 9, 10, 11, 12], [2, 23], list(range(2, 40)), [1, 64]])
def test_headers_that_are_written_here_are_read(ids: list[int]) -> None:
    assert list(read_gpp(gpp_string(dict.fromkeys(ids, "x")))) == ids


@pytest.mark.parametrize("value", [1, 2, 3, 4, 11, 100, 4095, 17_711])
def test_fibonacci_numbers(value: int) -> None:
    assert section_ids(base64url(number(3, 6) + number(1, 6) + number(1, 12) + "0" + fibonacci(value))) == [value]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "DBABMA",  # names a section that is not there
        f"DBAA~{TCF}",  # a section that is not named
        f"DBABMA~{TCF}~1YNN",
        f"DBACNYA~{TCF}",
        f"CBABMA~{TCF}",
        f"DCABMA~{TCF}",
        f"DBAB~{TCF}",
        f"DB+BMA~{TCF}",
        f"DBABMAB~{TCF}",
        base64url(number(3, 6) + number(1, 6) + number(1, 12) + "1" + fibonacci(1) + fibonacci(10_000)),
        base64url(number(3, 6) + number(1, 6) + number(1, 12) + "0" + "01" * 40 + "1"),
        "D" * (LONGEST + 1),
        "DBAA" + "~" * 1_000_000,
    ],
)
def test_what_is_damaged_is_not_read(text: str) -> None:
    with pytest.raises(Unreadable):
        read_gpp(text)


def test_sections_are_bounded() -> None:
    with pytest.raises(Unreadable):
        read_gpp(gpp_string(dict.fromkeys(range(1, MOST_SECTIONS + 2), "x")))


@pytest.mark.parametrize(
    ("section", "text", "reason"),
    [
        (7, "BAAAAAAAAQA.QA", None), (7, "BVQqAAAAAgA.QA", None), (7, "BVVqAAAACCA.QA", None),
        (7, "BVVVkkkklWA.YA", "us_sale"), (7, "BVQVAAAAAgA.QA", "us_sale"), (7, "BVAUAAAAAWA.QA", "us_sale"),
        (7, "BVQqAAAACZA.QA", "us_service_provider"), (7, "BVQVAAAAAAGA.YA", "us_sale"),
        (8, "BAAAAABA.QA", None), (8, "BVWSSSVY.YA", "us_sale"), (9, "BAAAABA", None), (9, "BVWSSVY", "us_sale"),
        (13, "BAAAAABA", None), (13, "BVWSSZlY", "us_sale"), (15, "BAAAAAABAA.QA", None),
        (15, "BVWSSRpFYA.YA", "us_sale"), (17, "BAAAAAABAA.QA", None), (17, "BVWSSSSVYA.YA", "us_sale"),
        (18, "BAAAAAQA.QA", None), (18, "BVVkklWA.YA", "us_sale"), (20, "BAAAAABA.QA", None),
        (20, "BVWSSZFY.YA", "us_sale"), (21, "BAAAAAAAQA.QA", None), (21, "BVWSSRklWA.YA", "us_sale"),
        (22, "BAAAAAQA.QA", None), (22, "BVWSSVWA.YA", "us_sale"), (23, "BAAAAAQA.QA", None),
        (23, "BVWSSVWA.YA", "us_sale"), (7, "BAAAAAAAAQA", None), (7, "BAAAAAAAAQA.YA", "gpc"),
    ],
)  # fmt: skip
def test_us_sections_that_are_published(section: int, text: str, reason: str | None) -> None:
    assert forbidden_by_section(section, text, OPT_OUTS) == reason


MEANINGS: dict[str, tuple[int, int, str | None]] = {
    "S": (2, 1, "us_sale"), "H": (2, 1, "us_sharing"), "T": (2, 1, "us_targeted_advertising"),
    "N": (1, 2, "us_no_notice"), "C": (2, 1, "us_child"), "P": (2, 1, "us_service_provider"), ".": (1, 2, None),
}  # fmt: skip
"""A value that allows, one that forbids, and the reason."""


def _section(layout: str, forbidding: int | None = None, version: int = 1) -> str:
    values = [MEANINGS[field] for field in layout]
    bits = (number(worse if place == forbidding else better, 2) for place, (better, worse, _) in enumerate(values))
    return base64url(number(version, 6) + "".join(bits))


@pytest.mark.parametrize("section", LAYOUTS)
def test_every_field_of_every_us_section(section: int) -> None:
    for layout in LAYOUTS[section]:
        assert forbidden_by_section(section, _section(layout), OPT_OUTS) is None
        for place, field in enumerate(layout):
            found = forbidden_by_section(section, _section(layout, place), OPT_OUTS)
            assert found == MEANINGS[field][2], (layout, place)


def test_opt_outs_that_do_not_count() -> None:
    (layout,) = LAYOUTS[9]
    sold, targeted = (_section(layout, layout.index(field)) for field in "ST")
    assert forbidden_by_section(9, sold, ("targeted_advertising",)) is None
    assert forbidden_by_section(9, targeted, ("targeted_advertising",)) == "us_targeted_advertising"


@pytest.mark.parametrize(
    "text",
    ["", "B", "z", "BAAAABAB", "CAAAABA", "BAAAAB", "BAAAAB=", "DAAAABA", "B8AAABA", "BAAAABA.gA", "BAAAABA.",
     "BAAAABA.QA.", "BAAAABA.QA.QA.QA", "BAAAABA.QB", "BAAAABA.QA" + "A" * LONGEST + "B"],
)  # fmt: skip
def test_us_sections_that_are_damaged(text: str) -> None:
    with pytest.raises(Unreadable):
        forbidden_by_section(9, text, OPT_OUTS)


@pytest.mark.parametrize(
    ("text", "out"), [("1YNN", False), ("1---", False), ("1NN-", False), ("1YYN", True), ("1yyn", True), ("1-Y-", True)]
)
def test_us_privacy_strings(text: str, out: bool) -> None:
    assert has_opted_out(text) is out


@pytest.mark.parametrize("text", ["", "1YN", "2YNN", "1YNNN", "1XNN", "1YNN\n", "YNN1", "0", "1 NN"])
def test_what_is_no_us_privacy_string(text: str) -> None:
    with pytest.raises(Unreadable):
        has_opted_out(text)
