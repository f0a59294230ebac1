"""Which ads fit what a bid request demands: masks against one ad at a time, and ads that come and change."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from adbeam.catalogue.creatives.columns import CreativeColumns
from adbeam.catalogue.creatives.creative import UNKNOWN_SECONDS, Demands, Shape, Wanted
from adbeam.catalogue.creatives.table import Creatives
from adbeam.errors import UserError

COLUMNS = CreativeColumns.parse(
    {"domains": "d", "categories": "c", "app": "a", "format": "f", "width_pixels": "w", "height_pixels": "h",
     "mimes": "m", "attributes": "t", "banner_type": "b", "duration_seconds": "s"}
)  # fmt: skip


def random_rows(number: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    values: dict[str, list[Any]] = {
        "d": [None, "a.example", "A.example, b.example"], "c": [None, "IAB1-2", "IAB2 IAB3"],
        "a": [None, "com.game"], "f": [None, "banner", "Video", "popup"], "w": [None, 300.0], "h": [None, 250.0],
        "m": [None, "video/mp4", "image/png VIDEO/MP4"], "t": [None, "1, 6", "x"], "b": [None, 3.0],
        "s": [None, 15.0],
    }  # fmt: skip
    return [{name: rng.choice(np.array(held, object)) for name, held in values.items()} for _ in range(number)]


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {"w": pa.float64(), "h": pa.float64(), "b": pa.float64(), "s": pa.float64()}
    return pa.table({name: pa.array([row[name] for row in rows], kinds.get(name, pa.string())) for name in rows[0]})


DEMANDS = [
    Demands(wanted, apps, named, listed)
    for wanted, apps, named, listed in itertools.product(
        [(), (Wanted("banner", frozenset({(300, 250)}), blocked_attributes=frozenset({6})),),
         (Wanted("video", mimes=frozenset({"video/mp4"}), most_seconds=20.0),
          Wanted("banner", blocked_types=frozenset({3})))],
        [frozenset[str](), frozenset({"com.game"})], [False, True], [False, True],
    )
]  # fmt: skip


@pytest.mark.parametrize("demands", DEMANDS)
def test_a_mask_holds_what_fits_one_by_one(demands: Demands) -> None:
    rows = random_rows(300)
    creatives = Creatives(COLUMNS, "banner", table_of(rows[:200]), "v1")
    for row in rows[200:]:
        creatives.put(row)
    allow_R = creatives.allow(demands, 300)
    assert allow_R.tolist() == [demands.fits(creatives.of(row)) for row in range(300)]
    assert creatives.allow(demands, 300) is allow_R


def test_cells_are_read_as_people_write_them() -> None:
    cells = {"d": "https://www.A.example/x; b.example", "c": "IAB1-2,IAB3", "a": " com.game ", "f": " VIDEO ",
             "w": "300", "h": 250.0, "m": "Video/MP4", "t": "1 6 x", "b": 2, "s": None}  # fmt: skip
    found = COLUMNS.creative(cells, "banner")
    assert found.domains == ("a.example", "b.example") and found.categories == ("IAB1-2", "IAB3")
    assert found.app == "com.game"
    assert found.shape == Shape(
        "video", 300, 250, frozenset({"video/mp4"}), frozenset({1, 6}), 2, UNKNOWN_SECONDS, True, True
    )
    nothing = COLUMNS.creative({}, "native").shape
    assert nothing.format == "native" and not nothing.is_named and not nothing.is_listed
    assert CreativeColumns().creative({}, None).shape == Shape()


def test_without_columns_nothing_is_asked_for() -> None:
    wanted = Wanted("video", mimes=frozenset({"video/mp4"}), blocked_attributes=frozenset({1}), most_seconds=5.0)
    assert wanted.fits(Shape()) and not wanted.fits(Shape("banner"))


def test_a_column_that_the_catalogue_has_not_is_refused_with_the_nearest() -> None:
    columns = CreativeColumns.parse({"domains": "domain"})
    with pytest.raises(UserError, match=r"openrtb\.creatives\.domains.*'domains'"):
        Creatives(columns, None, pa.table({"domains": ["a.example"]}), "v1")


def test_an_ad_that_changes_hands_has_the_domain_of_its_new_advertiser() -> None:
    columns = CreativeColumns.parse({"domains": "advertiser"})
    creatives = Creatives(columns, "banner", pa.table({"advertiser": ["a.example", "North"]}), "v1")
    creatives.copy(0, "b.example")
    creatives.copy(0, "")
    creatives.copy(0, None)
    assert [creatives.of(row).domains for row in range(5)] == [("a.example",), (), ("b.example",), (), ("a.example",)]
    assert creatives.allow(Demands(must_be_named=True), 5).tolist() == [True, False, True, False, True]
    assert {name: held.tolist() for name, held in creatives.rows_by["domain"].items()} == {
        "a.example": [0, 4], "b.example": [2],
    }  # fmt: skip
