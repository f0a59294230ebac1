"""Rules of one answer: what is taken, what is passed over, and settings that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adbeam.catalogue.owners import Owner
from adbeam.errors import UserError
from adbeam.list_rules.config import ListRulesConfig
from adbeam.list_rules.listing import Listing, kinds_of
from adbeam.list_rules.row_kinds import NONE, RowKinds


def test_the_best_ads_are_taken_until_a_kind_of_them_is_full() -> None:
    listing = Listing({"advertiser": 2, "category": 1}, 3)
    kinds = [("a", "x"), ("a", "x"), ("a", "y"), ("a", "z"), (None, None), ("b", "z")]
    assert [listing.takes(each) for each in kinds] == [True, False, True, False, True, False]
    assert listing.left == 0 and listing.passed_over == {"category": 1, "advertiser": 1}
    assert listing.full(0) == ["a"] and listing.full(1) == ["x", "y"]


def test_kinds_that_nobody_said_are_not_counted() -> None:
    listing = Listing({"advertiser": 1}, 9)
    assert [listing.takes((None,)) for _ in range(9)] == [True] * 9


def test_kinds_of_an_ad_come_in_the_order_of_the_rules() -> None:
    ad = {"advertiser": "a", "sid": [1, 2]}
    most = ListRulesConfig(most_per_sid=1, most_per_advertiser=2, most_per_category=3, most_per_campaign=4).most
    assert list(most.items()) == [("advertiser", 2), ("campaign", 4), ("category", 3), ("sid", 1)]
    assert kinds_of(ad, "tea", most) == ["a", None, "tea", (1, 2)]
    assert kinds_of({"sid": []}, None, {"sid": 1}) == [None]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"most_per_advertiser": 0}, "most_per_advertiser"),
        ({"most_per_campaign": -1}, "most_per_campaign"),
        ({"most_per_sid": 1.5}, "most_per_sid"),
        ({"most_per_brand": 2}, "most_per_brand"),
    ],
)
def test_a_rule_that_is_none_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        ListRulesConfig.parse(values, source="list_rules")


class _Rows:
    def __init__(self, rows: int) -> None:
        self.rows = [
            (Owner(f"a{row % 3}" if row % 4 else None, None, "tea"), (row % 2, row % 5)) for row in range(rows)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def owner_of(self, row: int) -> Owner:
        return self.rows[row][0]

    def sid_of(self, row: int) -> tuple[int, ...]:
        return self.rows[row][1]


def test_rows_have_equal_numbers_where_they_are_of_one_kind_also_those_that_come_later() -> None:
    rows = _Rows(5)
    kinds = RowKinds(rows, ("advertiser", "category", "sid"))
    for size in (5, 6, 40):
        rows.rows = _Rows(size).rows
        found = kinds.kinds(np.arange(size))
        advertisers = [rows.owner_of(row).advertiser for row in range(size)]
        columns: list[list[Any]] = [advertisers, ["tea"] * size, [rows.sid_of(row) for row in range(size)]]
        for place, values in enumerate(columns):
            numbers = found[:, place].tolist()
            assert [number == NONE for number in numbers] == [value is None for value in values]
            assert len(set(zip(values, numbers, strict=True))) == len(set(numbers)) == len(set(values))
