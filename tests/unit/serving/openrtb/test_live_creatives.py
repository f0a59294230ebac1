"""Creatives of ads that come and change while they are served, and of popular ads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.replicas import write_tokenized_bundle
from tests.support.serving.following_model import following_config, following_model, live_ads

from adbeam.catalogue.blocked import Blocked
from adbeam.catalogue.creatives.creative import Creative, Demands, Wanted
from adbeam.catalogue.updates import AdChange
from adbeam.errors import UserError
from adbeam.records import CatalogueItem
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Query

WIDE, NOW_MS = (8, 32, 512), 1_777_000_000_000
COLUMNS = {"domains": "advertiser", "format": "category", "width_pixels": "price"}
VIDEO = Demands((Wanted("video"),))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    write_tokenized_bundle(root, 12)
    return root


@pytest.fixture
def model(bundles: Path, tmp_path: Path) -> Iterator[LoadedModel]:
    model = following_model(following_config(bundles, tmp_path, openrtb={"creatives": COLUMNS}), tmp_path)
    yield model
    live_ads(model).stop()


def _served(model: LoadedModel, demands: Demands, *badv: str) -> dict[str, Creative]:
    query = Query(None, None, "display", 100, NOW_MS, Blocked(advertisers=frozenset(badv)), demands=demands)
    return {ad["item_id"]: Creative.of(ad) for ad in model.engine.answer([query], [WIDE])[0].ads}


def _insert(name: str, **fields: Any) -> AdChange:
    item = CatalogueItem(item_id=name, title="dark coffee", **fields)
    return AdChange(operation="insert", item_id=name, item=item)


def test_an_ad_that_comes_has_the_creative_that_it_brings(model: LoadedModel) -> None:
    assert not _served(model, VIDEO) and len(_served(model, Demands((Wanted("banner"),)))) == 12
    live_ads(model).change([_insert("new", advertiser="shop.new.example", category="video")])
    found = _served(model, VIDEO)
    assert list(found) == ["new"] and found["new"].domains == ("shop.new.example",)
    assert not _served(model, VIDEO, "new.example") and list(_served(model, VIDEO, "other.example")) == ["new"]
    live_ads(model).change([_insert("new", advertiser="shop.new.example", category="banner")])
    assert not _served(model, VIDEO)


def test_an_ad_that_changes_hands_is_of_its_new_advertiser(model: LoadedModel) -> None:
    live_ads(model).change([_insert("new", advertiser="old.example", category="video")])
    live_ads(model).change([AdChange(operation="update", item_id="new", advertiser="now.example")])
    assert _served(model, VIDEO)["new"].domains == ("now.example",)
    assert not _served(model, VIDEO, "now.example") and _served(model, VIDEO, "old.example")


def test_popular_ads_fit_too_and_tell_their_creatives(model: LoadedModel) -> None:
    popular = model.popular_ads
    banner = list(popular.left(Blocked(), demands=Demands((Wanted("banner"),))))
    assert len(banner) == 12 and all(Creative.of(ad).shape.format == "banner" for ad, _ in banner)
    assert not list(popular.left(Blocked(), demands=VIDEO))
    assert not list(popular.left(Blocked(), demands=Demands(must_be_named=True))), (
        "north, south and west are no domains"
    )
    assert all("creative" not in ad for ad, _ in popular.left(Blocked()))


@pytest.mark.parametrize(
    ("openrtb", "named"),
    [
        ({"creatives": {"domains": "advertisers"}}, "'advertiser'"), ({"default_scene": "displai"}, "'display'"),
        ({"scenes": {"top": "x"}}, "scenes.top"),
    ],
)  # fmt: skip
def test_what_the_bundle_has_not_is_refused_when_it_loads(
    openrtb: dict[str, Any], named: str, bundles: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=named):
        following_model(following_config(bundles, tmp_path, openrtb=openrtb), tmp_path)
