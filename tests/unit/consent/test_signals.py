"""All signals of a person together: what wins, what is as not told, and what cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.serving.consent_strings import VENDOR, gpp_string, tc_string, vendors

from adbeam.consent.config import PrivacyConfig
from adbeam.consent.signals import REASONS, Signals, forbidden_by

RULES = PrivacyConfig.parse({"vendor_id": VENDOR})
YES, NO = tc_string(), tc_string(consent=vendors([]))
SOLD, KEPT = "BVQVAAAAAgA.QA", "BVQqAAAAAgA.QA"


def _reason(rules: PrivacyConfig = RULES, **told: Any) -> str | None:
    values: dict[str, Any] = {name: tuple(each) for name, each in told.items()}
    return forbidden_by(Signals(**values), rules)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"coppa": [0, None], "lmt": ["0"], "dnt": [False], "gpc": [0.0, ""]},
        {"gdpr": [0, None]},
        {"gdpr": ["0"], "tcf": [NO, "damaged"]},
        {"gdpr": [None, ""], "tcf": ["", None], "gpp": ["", None], "us_privacy": ["", None], "gpp_sid": [None, []]},
        {"gdpr": [1], "tcf": [YES]},
        {"gdpr": [1, 0], "tcf": [None, YES]},
        {"tcf": [YES, YES]},
        {"us_privacy": ["1YNN", "1---"]},
        {"gpp": ["DBAA"]},
        {"gpp": [gpp_string({2: YES, 6: "1YNN", 7: KEPT})], "gpp_sid": [[2, 6, 7]]},
        {"gpp": [gpp_string({6: "1YYN", 7: KEPT})], "gpp_sid": [[7]]},
        {"gpp": [gpp_string({6: "1YYN"})], "gpp_sid": [[-1]]},
        {"gpp": ["damaged"], "gpp_sid": [[0]]},
        {"gpp": [gpp_string({5: "canada", 7: KEPT})], "gpp_sid": ["7"]},
        {"gpp": [gpp_string({2: YES, 6: "1YNN"})], "gpp_sid": ["2_6", [2.0, "6"]]},
        {"gpp": [gpp_string({7: KEPT})], "gpp_sid": [[3, 7, 4]]},
        {"gpp": [gpp_string({6: "1YYN"})], "gpp_sid": [[-1, 0], [-1]]},
        {"gpp_sid": [[2]], "tcf": [YES]},
        {"gpp_sid": [[6]], "us_privacy": ["1YNN"]},
        {"gdpr": [0], "gpp": [gpp_string({2: NO})]},
    ],
)
def test_what_lets_data_be_used(told: dict[str, Any]) -> None:
    assert _reason(**told) is None


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("coppa", {"coppa": [0, 1]}),
        ("coppa", {"coppa": [True], "tcf": [YES], "gdpr": [1]}),
        ("lmt", {"lmt": ["1"]}),
        ("dnt", {"dnt": [{"is": 1}]}),
        ("gpc", {"gpc": ["1"]}),
        ("gpc", {"gpp": [gpp_string({7: "BVQqAAAAAgA.YA"})]}),
        ("gdpr_no_consent_string", {"gdpr": [1]}),
        ("gdpr_no_consent_string", {"gdpr": [0, 1], "tcf": [""]}),
        ("gdpr_no_consent_string", {"gdpr": ["yes"]}),
        ("gpp_missing", {"gpp_sid": [[2]]}),
        ("us_sale", {"gpp": [gpp_string({7: SOLD})], "gpp_sid": [[3]]}),
        ("us_sale", {"gpp": [gpp_string({7: SOLD})], "gpp_sid": [[-1], [7]]}),
        ("gpp_missing", {"gpp": [gpp_string({7: KEPT})], "gpp_sid": [[2, 7]]}),
        ("gpp_missing", {"gpp_sid": [[7]], "tcf": [YES], "us_privacy": ["1YNN"]}),
        ("tcf_vendor", {"gdpr": [1], "tcf": [NO]}),
        ("tcf_vendor", {"gdpr": [1], "tcf": [YES, NO]}),
        ("tcf_vendor", {"tcf": [NO]}),
        ("tcf_vendor", {"gpp": [gpp_string({2: NO})]}),
        ("tcf_vendor", {"gpp": [gpp_string({2: NO})], "gpp_sid": [[2]], "gdpr": [0]}),
        ("tcf_vendor", {"gpp": [gpp_string({2: NO})], "gdpr": [1], "tcf": [YES]}),
        ("tcf_unreadable", {"gdpr": [1], "tcf": ["damaged"]}),
        ("tcf_unreadable", {"gdpr": [1], "tcf": [7]}),
        ("tcf_unreadable", {"gdpr": [1], "tcf": ["C" * 1_000_000]}),
        ("gpp_unreadable", {"gpp": ["damaged"]}),
        ("gpp_unreadable", {"gpp": [{"string": "DBAA"}]}),
        ("gpp_unreadable", {"gpp": ["DBAA"], "gpp_sid": [["seven"]]}),
        ("gpp_unreadable", {"gpp": ["DBAA"], "gpp_sid": [{"id": 7}]}),
        ("gpp_unreadable", {"gpp": ["DBAA"], "gpp_sid": [[True]]}),
        ("gpp_unreadable", {"gpp": ["DBAA"], "gpp_sid": [[7.5]]}),
        ("gpp_unreadable", {"gpp": ["DBAA"], "gpp_sid": [list(range(1000))]}),
        ("gpp_unreadable", {"gpp": ["DBAA"], "gpp_sid": ["nan"]}),
        ("gpp_unreadable", {"gpp": ["DBAA"], "gpp_sid": [["inf"]]}),
        ("gpp_unreadable", {"gpp": ["DBAA"], "gpp_sid": [[10**5000]]}),
        ("gpp_unreadable", {"gpp": ["DBAA"], "gpp_sid": ["7," * 1_000_000]}),
        ("gpp_unreadable", {"gpp": [gpp_string({7: "BVQ"})]}),
        ("gpp_section", {"gpp": [gpp_string({5: "canada"})]}),
        ("gpp_section", {"gpp": [gpp_string({24: "BVVU.YA"})], "gpp_sid": [[24]]}),
        ("us_privacy", {"us_privacy": ["1YNN", "1YYN"]}),
        ("us_privacy", {"gpp": [gpp_string({6: "1NYN"})]}),
        ("us_privacy_unreadable", {"us_privacy": ["1YN"]}),
        ("us_privacy_unreadable", {"us_privacy": [1]}),
        ("us_sale", {"gpp": [gpp_string({7: SOLD})], "gpp_sid": [[7]]}),
        ("us_sale", {"gpp": [gpp_string({7: KEPT}), gpp_string({7: SOLD})]}),
    ],
)
def test_what_forbids(reason: str, told: dict[str, Any]) -> None:
    assert _reason(**told) == reason and reason in REASONS


def test_an_object_that_is_none_forbids() -> None:
    assert forbidden_by(Signals(is_unreadable=True), RULES) == "signals_unreadable"


def test_without_a_number_in_the_vendor_list_nobody_is_looked_up_under_gdpr() -> None:
    unnumbered = PrivacyConfig()
    assert _reason(unnumbered) is None
    assert _reason(unnumbered, gdpr=[1], tcf=[YES]) == _reason(unnumbered, tcf=[YES]) == "gdpr_no_vendor_id"


def test_what_holds_without_a_string_is_a_setting() -> None:
    rules = PrivacyConfig.parse({"vendor_id": VENDOR, "gdpr_without_consent_string": "allow"})
    assert _reason(rules, gdpr=[1]) is None
    assert _reason(rules, gdpr=[1], tcf=[NO]) == "tcf_vendor"


def test_us_opt_outs_are_a_setting() -> None:
    rules = PrivacyConfig.parse({"us_opt_outs": []})
    assert _reason(rules, gpp=[gpp_string({7: SOLD})]) is None


def test_the_page_for_the_privacy_officer_names_every_reason() -> None:
    page = (Path(__file__).parents[3] / "docs" / "privacy.md").read_text(encoding="utf-8")
    assert [f"| `{name}` | {meaning} |" for name, meaning in REASONS.items()] == [
        line for line in page.partition("| `reason` |")[2].splitlines()[2:] if line.startswith("| `")
    ]
