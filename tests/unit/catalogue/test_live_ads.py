"""A served model on the update log, without a server: rows, filters, fallback, the admin's change, the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.bundles import write_random_bundle
from tests.support.replicas import write_tokenized_bundle
from tests.support.serving.following_model import following_config, following_model, live_ads
from typer.testing import CliRunner

from adbeam.bundle import load_bundle
from adbeam.catalogue.blocked import Blocked
from adbeam.catalogue.index import SidIndex
from adbeam.catalogue.live import ChangeRefused
from adbeam.catalogue.updates import AdChange, SqliteUpdateLog
from adbeam.cli.root import app
from adbeam.errors import UserError
from adbeam.records import CatalogueItem
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import HistoryEvent, Query

WIDE = (8, 32, 512)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    write_tokenized_bundle(root, 40)
    return root


def loaded(bundles: Path, folder: Path) -> LoadedModel:
    return following_model(following_config(bundles, folder), folder)


@pytest.fixture
def model(bundles: Path, tmp_path: Path) -> Iterator[LoadedModel]:
    model = loaded(bundles, tmp_path)
    yield model
    live_ads(model).stop()


def index_of(model: LoadedModel) -> SidIndex:
    assert isinstance(model.engine, ModelEngine)
    return model.engine.catalogue.index


def served(model: LoadedModel, history: tuple[HistoryEvent, ...] | None = None, **blocked: Any) -> list[str]:
    sets: dict[str, Any] = {name: value if name == "seen" else frozenset(value) for name, value in blocked.items()}
    query = Query(None, history, "display", 100, 1_700_000_000_000, Blocked(**sets))
    return [ad["item_id"] for ad in model.engine.answer([query], [WIDE])[0].ads]


def insert(item_id: str, **values: Any) -> AdChange:
    item = CatalogueItem(**{"item_id": item_id, "title": "dark coffee", "advertiser": "east", **values})
    return AdChange(operation="insert", item_id=item_id, item=item)


def test_a_new_ad_is_found_filtered_and_remembered_like_any_other(model: LoadedModel) -> None:
    assert served(model, advertisers=["east"]) == served(model) and len(served(model)) == 40
    before = served(model, advertisers=["north"])
    last, (sid,) = live_ads(model).change([insert("new")])
    assert last == 1 and "new" in served(model)
    assert "new" not in served(model, advertisers=["east"]) and "new" not in served(model, item_ids=["new"])
    assert set(served(model, advertisers=["north"])) == {*before, "new"}
    engine = model.engine
    assert isinstance(engine, ModelEngine) and sid
    assert engine.catalogue.sids.lookup(["new"])[0].tolist() == [list(sid)]
    seen = (HistoryEvent(item_id="new", timestamp=1),)
    assert "new" not in served(model, history=seen, seen=True)


def test_ads_of_one_sid_come_by_live_ecpm_then_recency(model: LoadedModel) -> None:
    live_ads(model).change([insert("one", ecpm=2.0), insert("two", ecpm=2.0), insert("three", ecpm=1.0)])
    index = index_of(model)
    # The hash of the business fields keeps them apart: put them on one SID to see their order.
    for item_id, ecpm in (("one", 2.0), ("two", 2.0), ("three", 1.0)):
        index.insert(item_id, (0, 0, 0), ecpm=ecpm)
    assert index.items((0, 0, 0)) == ["two", "one", "three"]
    live_ads(model).change([AdChange(operation="update", item_id="three", ecpm=9.0)])
    assert index.items((0, 0, 0)) == ["three", "two", "one"]


def test_an_ad_of_live_ecpm_0_is_shown_but_not_bid_and_the_fallback_knows_the_live_ecpm(model: LoadedModel) -> None:
    assert model.is_worth_bidding("ad1") and model.is_worth_bidding("nobody knows")
    live_ads(model).change(
        [AdChange(operation="update", item_id="ad1", ecpm=0.0), AdChange(operation="update", item_id="ad2", ecpm=7.5)]
    )
    assert "ad1" in served(model) and not model.is_worth_bidding("ad1") and model.is_worth_bidding("ad2")
    popular = {ad["item_id"]: ad["expected_ecpm"] for ad in model.popular(Blocked(), 100)}
    assert popular["ad1"] == 0.0 and popular["ad2"] == 7.5
    live_ads(model).change(
        [AdChange(operation="update", item_id="ad1", ecpm=0.5), insert("free", ecpm=0.0), insert("new")]
    )
    assert model.is_worth_bidding("ad1") and not model.is_worth_bidding("free")
    assert model.is_worth_bidding("new"), "nobody said what it earns"
    live_ads(model).change([insert("free")])
    assert model.is_worth_bidding("free")


def test_a_replaced_ad_has_its_new_fields_at_once(model: LoadedModel) -> None:
    live_ads(model).change([insert("ad3", title="mild tea", advertiser="east")])
    assert served(model).count("ad3") == 1 and "ad3" not in served(model, advertisers=["east"])
    query = Query(None, None, "display", 100, 1_700_000_000_000, Blocked())
    shown = {ad["item_id"]: ad for ad in model.engine.answer([query], [WIDE])[0].ads}
    assert shown["ad3"]["title"] == "mild tea"


def test_paused_and_removed_ads_leave_every_answer(model: LoadedModel) -> None:
    live_ads(model).change([AdChange(operation="pause", item_id="ad1"), AdChange(operation="remove", item_id="ad2")])
    assert not {"ad1", "ad2"} & set(served(model))
    assert not {"ad1", "ad2"} & {ad["item_id"] for ad in model.popular(Blocked(), 100)}
    assert [ad["item_id"] for ad in model.without_dead([{"item_id": "ad1"}, {"item_id": "ad3"}])] == ["ad3"]
    live_ads(model).change([AdChange(operation="resume", item_id="ad1")])
    assert "ad1" in served(model) and "ad1" in {ad["item_id"] for ad in model.popular(Blocked(), 100)}


def test_changes_are_made_together_or_not_at_all(model: LoadedModel) -> None:
    with pytest.raises(ChangeRefused) as unknown:
        live_ads(model).change([insert("x"), AdChange(operation="pause", item_id="nobody")])
    assert unknown.value.field == "changes.1.item_id"
    with pytest.raises(ChangeRefused) as empty:
        live_ads(model).change([insert("x", title="", advertiser=None)])
    assert empty.value.field == "changes.0.item" and "no text" in empty.value.what
    assert live_ads(model).updates.last() == 0 and "x" not in served(model)
    live_ads(model).change([insert("x"), AdChange(operation="pause", item_id="x")])
    assert "x" not in served(model)


def test_another_replica_replays_the_log_from_the_bundles_watermark(bundles: Path, tmp_path: Path) -> None:
    first = loaded(bundles, tmp_path)
    live_ads(first).change([insert("early"), AdChange(operation="remove", item_id="ad5")])
    second = loaded(bundles, tmp_path)
    assert set(served(second)) == set(served(first)) and "early" in served(second)
    later = write_tokenized_bundle(tmp_path / "later", 40, updates_watermark=2)
    trim = ["ads", "trim", "--log", str(tmp_path / "updates.sqlite"), "--bundle", str(tmp_path / "later")]
    assert "up to 2" in CliRunner().invoke(app, trim).output
    with pytest.raises(UserError, match="no longer holds the updates 1 to 2"):
        loaded(bundles, tmp_path)
    third = loaded(later, tmp_path)
    assert "early" not in served(third) and "ad5" in served(third)
    for model in (first, second, third):
        live_ads(model).stop()
    foreign = write_tokenized_bundle(tmp_path / "foreign", 40, updates_watermark=9)
    with pytest.raises(UserError, match="ends at 2, before the watermark 9"):
        loaded(foreign, tmp_path)


def test_a_bundle_without_a_tokenizer_takes_no_new_ad(tmp_path: Path) -> None:
    write_random_bundle(tmp_path / "b", 60)
    model = loaded(tmp_path / "b", tmp_path)
    with pytest.raises(ChangeRefused, match="no tokenizer"):
        live_ads(model).change([insert("x")])
    live_ads(model).change([AdChange(operation="pause", item_id="item-1")])
    assert "item-1" not in served(model)
    live_ads(model).stop()


def test_the_command_line_writes_the_log_that_replicas_follow(
    model: LoadedModel, bundles: Path, tmp_path: Path
) -> None:
    log = ["--log", str(tmp_path / "updates.sqlite")]
    (tmp_path / "ads.jsonl").write_text('{"item_id": "f1", "title": "old wine"}\n{"item_id": "f2", "title": "tea"}\n')

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["ads", *words])

    assert "insert\tcli\t" in run("add", "cli", "--title", "fresh bread", "--bundle", str(bundles), *log).output
    assert run("add", "--file", str(tmp_path / "ads.jsonl"), "--bundle", str(bundles), *log).exit_code == 0
    assert "number 4" in run("update", "cli", "--ecpm", "7.5", *log).output
    assert run("remove", "f1", "f2", *log).exit_code == 0 and run("pause", "ad7", *log).exit_code == 0
    live_ads(model).follower.poll()
    assert "cli" in served(model) and not {"f1", "f2", "ad7"} & set(served(model))
    entry = index_of(model).entry("cli")
    assert entry and entry.ecpm == 7.5
    assert run("resume", "ad7", *log).exit_code == 0
    assert SqliteUpdateLog(tmp_path / "updates.sqlite").last() == 8
    for words, message in (
        (["add"], "give the id"),
        (["add", "x", "--title", "t", *log], "needs a tokenizer"),
        (["add", "x", "--price", "-1", "--bundle", str(bundles), *log], "greater than or equal to 0"),
        (["add", "--file", str(tmp_path / "absent"), *log], "cannot read"),
        (["pause", "x", "--url", "http://127.0.0.1:9"], "no answer"),
    ):
        assert message in str(run(*words).exception)


def test_the_bundle_is_enough_to_encode_with(bundles: Path) -> None:
    from adbeam.catalogue.follower import encode_ad
    from adbeam.tokens.encoder import LazyTokenizer

    bundle = load_bundle(bundles)
    encoder = LazyTokenizer(bundle.settings.tokens, bundle.codebooks, bundle.embedder_dir)
    rows = {row["item_id"]: row for row in bundle.catalogue.to_pylist()}
    again = {name: row.pop("sid") for name, row in rows.items()}
    assert all(list(encode_ad(encoder, CatalogueItem(**row))) == again[name] for name, row in rows.items())
