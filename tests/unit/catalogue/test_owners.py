"""Whose ads are: in the catalogue, live, in answers, and in the next bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.replicas import write_tokenized_bundle
from tests.support.serving.following_model import following_config, following_model, live_ads
from typer.testing import CliRunner

from adbeam.bundle import load_bundle, write_again
from adbeam.catalogue.blocked import Blocked
from adbeam.catalogue.fold_updates import fold_updates
from adbeam.catalogue.owners import HeardOwners, Owner
from adbeam.catalogue.updates import AdChange
from adbeam.cli.root import app
from adbeam.logs.catalogue import read_catalogue
from adbeam.logs.config import TableConfig
from adbeam.records import CATALOGUE_SCHEMA, CatalogueItem
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Query

ADS, WIDE, NOW_MS = 12, (8, 32, 512), 1_777_000_000_000


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    bundle = load_bundle(write_tokenized_bundle(root, ADS))
    campaigns = pa.array(["spring", "spring", *[None] * (ADS - 2)], pa.string())
    write_again(root, bundle, {}, catalogue=bundle.catalogue.append_column("campaign", campaigns))
    return root


@pytest.fixture
def model(bundles: Path, tmp_path: Path) -> Iterator[LoadedModel]:
    model = following_model(following_config(bundles, tmp_path), tmp_path)
    yield model
    live_ads(model).stop()


def _query(**blocked: Any) -> Query:
    sets: dict[str, Any] = {name: frozenset(values) for name, values in blocked.items()}
    return Query(None, None, "display", 100, NOW_MS, Blocked(**sets))


def _served(model: LoadedModel, **blocked: Any) -> dict[str, Owner]:
    answer = model.engine.answer([_query(**blocked)], [WIDE])[0]
    return {ad["item_id"]: Owner.of(ad) for ad in answer.ads}


def _read(path: Path, **settings: Any) -> pa.Table:
    return read_catalogue(TableConfig(path=(str(path),), **settings), "logs.files.catalogue", 2)[0]


def test_campaigns_are_a_column_where_any_ad_has_one(tmp_path: Path) -> None:
    for name, rows in {
        "some": "a,spring\nb,\nc,\n",
        "none": "a,\nb,\nc,\n",
        "long": f"a,{'x' * 300}\nb,summer\n",
    }.items():
        (tmp_path / f"{name}.csv").write_text("item_id,campaign\n" + rows)
    (tmp_path / "absent.csv").write_text("item_id\na\nb\nc\n")
    some = _read(tmp_path / "some.csv")
    assert some.column_names == [*CATALOGUE_SCHEMA.names, "campaign"]
    assert some["campaign"].to_pylist() == ["spring", None, None]
    assert _read(tmp_path / "long.csv")["item_id"].to_pylist() == ["b"]
    assert _read(tmp_path / "none.csv").equals(_read(tmp_path / "absent.csv"))
    assert _read(tmp_path / "absent.csv").column_names == CATALOGUE_SCHEMA.names
    feature = _read(tmp_path / "some.csv", features={"campaign": "string"})
    assert feature.column_names == [*CATALOGUE_SCHEMA.names, "campaign"]


def test_answers_name_advertiser_and_campaign_where_they_are_known(model: LoadedModel) -> None:
    served = _served(model)
    assert served["ad0"].campaign == served["ad1"].campaign == "spring" and served["ad2"].campaign is None
    assert all(owner.advertiser for owner in served.values())
    found = model.engine.answer([_query()], [WIDE])[0].ads
    assert [("campaign" in ad) for ad in found] == [ad["item_id"] in ("ad0", "ad1") for ad in found]
    popular = {ad["item_id"]: Owner.of(ad) for ad in model.popular(Blocked(), 100, "display")}
    assert popular["ad0"].campaign == "spring"


def test_ads_change_hands_while_they_are_served(model: LoadedModel) -> None:
    before = model.engine.answer([_query()], [WIDE])[0]
    item = CatalogueItem(item_id="new", title="dark tea", campaign="autumn")
    live_ads(model).change([
        AdChange(operation="insert", item_id="new", item=item),
        AdChange(operation="update", item_id="ad0", campaign="summer", ecpm=3.0),
        AdChange(operation="update", item_id="ad1", advertiser="east", campaign="", targeting={"scenes": ["display"]}),
        AdChange(operation="pause", item_id="ad2"),
        AdChange(operation="update", item_id="ad2", campaign="summer"),
    ])  # fmt: skip
    served = _served(model)
    assert served["new"] == Owner(None, "autumn")
    assert served["ad0"].campaign == "summer" and served["ad0"].advertiser is not None
    assert served["ad1"] == Owner("east", None) and "ad2" not in served
    assert "ad1" not in _served(model, advertisers=["east"])
    live_ads(model).change([AdChange(operation="resume", item_id="ad2")])
    assert _served(model)["ad2"].campaign == "summer"
    assert not {"ad0", "ad1", "ad2"} & {ad["item_id"] for ad in model.still_shown(before, None)}
    assert {ad["item_id"] for ad in model.popular(Blocked(), 100)} <= {ad["item_id"] for ad in before.ads[3:]} | {
        f"ad{number}" for number in range(3, ADS)
    }


def test_rules_go_with_an_ad_that_changes_hands(model: LoadedModel) -> None:
    live_ads(model).change([AdChange(operation="update", item_id="ad3", targeting={"scenes": ["elsewhere"]})])
    live_ads(model).change([AdChange(operation="update", item_id="ad3", campaign="spring")])
    assert "ad3" not in _served(model)


def test_a_new_bundle_holds_the_campaigns_of_the_log(model: LoadedModel, bundles: Path) -> None:
    item = CatalogueItem(item_id="new", title="dark tea", campaign="autumn")
    live_ads(model).change([
        AdChange(operation="insert", item_id="new", item=item),
        AdChange(operation="update", item_id="ad0", campaign=""),
        AdChange(operation="update", item_id="ad5", advertiser="east"),
    ])  # fmt: skip
    catalogue = load_bundle(bundles).catalogue
    folded, _ = fold_updates(catalogue, live_ads(model).updates, live_ads(model).encoder)
    rows = {row["item_id"]: Owner.of(row) for row in folded.to_pylist()}
    assert rows["new"] == Owner(None, "autumn") and rows["ad0"].campaign is None and rows["ad1"].campaign == "spring"
    assert rows["ad5"].advertiser == "east"
    bare, _ = fold_updates(catalogue.drop_columns("campaign"), live_ads(model).updates, live_ads(model).encoder)
    assert dict(zip(bare["item_id"].to_pylist(), bare["campaign"].to_pylist(), strict=True))["new"] == "autumn"


def test_the_command_line_says_whose_ads_are(model: LoadedModel, bundles: Path, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["ads", *words, "--log", str(tmp_path / "updates.sqlite")])

    added = run(
        "add", "cli", "--title", "tea", "--advertiser", "east", "--campaign", "autumn", "--bundle", str(bundles)
    )
    assert added.exit_code == 0, added.output
    assert run("update", "ad4", "--campaign", "autumn").exit_code == 0
    live_ads(model).follower.poll()
    served = _served(model)
    assert served["cli"] == Owner("east", "autumn") and served["ad4"].campaign == "autumn"


def test_a_change_says_who_it_is_of_in_one_place_only() -> None:
    with pytest.raises(ValueError, match="campaign is of an update"):
        AdChange(operation="pause", item_id="a", campaign="x")
    with pytest.raises(ValueError, match="at most 256"):
        AdChange(operation="update", item_id="a", campaign="x" * 257)


def test_what_was_heard_of_owners_wins() -> None:
    heard = HeardOwners()
    heard.hear("a", Owner("x", None))
    assert heard.owner("a", Owner("y", "z")) == Owner("x", None) and heard.owner("b", Owner("y")) == Owner("y")


def test_an_older_log_of_updates_reads_as_before(tmp_path: Path) -> None:
    change = AdChange(operation="insert", item_id="a", item=CatalogueItem(item_id="a", title="t"))
    assert "campaign" not in change.model_dump_json(exclude_none=True)
    pq.write_table(pa.table({"item_id": ["a"], "campaign": [7]}), tmp_path / "c.parquet")
    assert _read(tmp_path / "c.parquet")["campaign"].to_pylist() == ["7"]
