"""`logs.value: ecpm`: a target is worth 1000 x pCTR x pCVR x bid, by the training split's own impressions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.logs.impression_log import AD_RATES, SCENES, ImpressionLog, random_log
from tests.support.samples import VALIDATION_FROM_MS

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import describe, run
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences, requests_in
from adbeam.logs.values.credibility import credible_factors
from adbeam.records import ACTIONS, SEQUENCE_SCHEMA


def values_of(prepared: PreparedLog) -> dict[tuple[str, str], set[float]]:
    """{(item, scene): the values its events have}."""
    found: dict[tuple[str, str], set[float]] = {}
    for shard in prepared.sequences():
        for sequence in read_sequences(shard):
            for item, scene, value in zip(sequence.item_H, sequence.scene_H, sequence.worth_H, strict=True):
                found.setdefault((item, scene), set()).add(float(value))
    return found


def value_of(prepared: PreparedLog, item: str, scene: str = "feed") -> float:
    (value,) = values_of(prepared)[item, scene]
    return value


def test_an_ad_is_worth_its_rates_times_its_bid(tmp_path: Path) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 100, clicks=20, orders=5, bid=3.0, price=99.0)
    assert value_of(log.prepare(tmp_path), "item0") == pytest.approx(1000 * 0.2 * 0.25 * 3.0)


def test_without_a_bid_it_is_the_mean_price_and_twenty_times_the_impressions_are_a_twentieth(tmp_path: Path) -> None:
    few, many = ImpressionLog(), ImpressionLog()
    for log, shown in ((few, 12), (many, 240)):
        for number, price in enumerate((40.0, 60.0)):
            log.show(f"item{3 * number}", "feed", shown // 2, clicks=6, orders=6, price=price)
    prepared = [log.prepare(tmp_path / name) for name, log in (("few", few), ("many", many))]
    assert [value_of(one, "item0") for one in prepared] == pytest.approx([40_000, 2_000])
    assert value_of(prepared[1], "item3") == pytest.approx(3_000)


def test_showings_of_one_request_count_each_and_an_order_alone_is_a_showing(tmp_path: Path) -> None:
    log = ImpressionLog()
    for _ in range(20):
        log.add("item0", "feed", "impression", 0)
    log.add("item0", "feed", "conversion", price=50.0)
    for request in range(1, 4):
        log.add("item0", "feed", "conversion", request, price=50.0)
    assert value_of(log.prepare(tmp_path), "item0") == pytest.approx(1000 * 4 / 23 * 50)


def test_a_log_of_clicks_is_worth_its_clicks(tmp_path: Path) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 50, clicks=5, bid=0.4)
    prepared = log.prepare(tmp_path)
    assert prepared.target_action == "click"
    assert value_of(prepared, "item0") == pytest.approx(1000 * 0.1 * 0.4)


def test_weights_count_the_impressions_that_were_not_logged(tmp_path: Path) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 30, clicks=10, orders=10, price=2.0)
    logged = [1.0 if row["request_id"] in {r["request_id"] for r in log.rows if r["action"] == "click"} else 4.5
              for row in log.rows]  # fmt: skip
    weighed = {"columns": {"kept": logged}, "files": {}}
    plain = log.prepare(tmp_path / "plain", **weighed)
    assert value_of(plain, "item0") == pytest.approx(1000 * 10 / 30 * 2)
    settings = log.settings(tmp_path / "rows", **weighed)
    settings["files"]["impression_weight"] = "kept"
    prepared = run(SimpleNamespace(work_dir=tmp_path, logs=LogsConfig.parse(settings)), in_process=True)
    assert value_of(prepared, "item0") == pytest.approx(1000 * 10 / 100 * 2)
    assert prepared.account["ecpm_rates"]["impressions"] == 100


def test_a_weight_that_is_a_probability_is_refused(tmp_path: Path) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 30, clicks=10, orders=10, price=2.0)
    settings = {"columns": {"kept": [0.125] * len(log.rows)}}
    with pytest.raises(UserError, match=r"'kept' holds 0\.125.*1 / \(probability"):
        log.prepare(tmp_path, **settings, files={"impression_weight": "kept", "events": {
            "path": str(tmp_path / "rows" / "events.parquet"), "features": {"kept": "number"}}})  # fmt: skip


def test_the_future_moves_no_value(tmp_path: Path) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 100, clicks=20, orders=5, bid=3.0)
    alone = log.prepare(tmp_path / "alone")
    log.show("item0", "feed", 50, clicks=50, orders=50, day=85.0, bid=900.0)
    log.show("item1", "elsewhere", 5, clicks=5, orders=5, day=95.0, bid=900.0)
    prepared = log.prepare(tmp_path / "both")
    assert value_of(prepared, "item0") == value_of(alone, "item0") == pytest.approx(150.0)
    assert value_of(prepared, "item1", "elsewhere") == pytest.approx(150.0)  # nothing is known of it but the mean
    assert pq.read_table(prepared.folder / "ecpm_rates/ads.parquet")["item_id"].to_pylist() == ["item0", None]


def test_few_impressions_are_believed_less_than_many(tmp_path: Path) -> None:
    log = ImpressionLog()
    for number, rate in enumerate((0.02, 0.05, 0.1, 0.2)):
        log.show(f"item{3 * number}", "feed", 1000, clicks=int(1000 * rate), orders=int(1000 * rate), bid=1.0)
    log.show("item15", "feed", 2, clicks=2, orders=2, bid=1.0)
    prepared = log.prepare(tmp_path)
    mean = 1000 * 372 / 4002
    assert mean < value_of(prepared, "item15") < 0.3 * 1000
    assert value_of(prepared, "item9") == pytest.approx(200, rel=0.03)
    assert value_of(prepared, "item0") == pytest.approx(20, rel=0.1)


def test_believed_rates_are_nearer_to_the_truth_than_the_counted_ones(tmp_path: Path) -> None:
    log = random_log()
    prepared = log.prepare(tmp_path)
    train = [row for row in log.rows if row["timestamp"] < VALIDATION_FROM_MS]
    error: list[tuple[float, float]] = []
    for (item, scene), (believed,) in values_of(prepared).items():
        of_ad = [row["action"] for row in train if (row["item_id"], row["scene"]) == (item, scene)]
        counted = 10_000 * of_ad.count("conversion") / of_ad.count("impression")
        number = int(item[4:]) - int(item[4:]) // 3
        truth = 10_000 * (0.04, 0.16)[SCENES.index(scene)] * AD_RATES[number % 2] * 0.25
        error.append((abs(believed / truth - 1), abs(counted / truth - 1)))
    believed_error, counted_error = np.mean(error, axis=0)
    assert len(error) == 20 and believed_error < 0.75 * counted_error
    counts = prepared.account["ecpm_rates"]
    assert (counts["ads"], counts["scenes"]) == (10, 2)


def test_groups_that_are_alike_are_taken_for_one() -> None:
    noise = np.ones(3)
    assert credible_factors(np.array([10.0, 11, 9]), np.array([10.0, 10, 10]), noise).tolist() == [1, 1, 1]
    apart = credible_factors(np.array([100.0, 300, 0]), np.array([200.0, 200, 0]), noise)
    assert apart[2] == 1 and 0.5 < apart[0] < 0.6 and 1.4 < apart[1] < 1.5
    assert credible_factors(np.array([5.0]), np.array([9.0]), np.ones(1)).tolist() == [1]


def test_one_amount_in_micros_moves_no_value(tmp_path: Path) -> None:
    log = ImpressionLog()
    for number in range(4):
        log.show(f"item{3 * number}", "feed", 30, clicks=10, orders=10, price=5.0 + number)
    clean = values_of(log.prepare(tmp_path / "clean"))
    log.rows[2]["price"] = 5_000_000.0
    assert log.rows[2]["action"] == "conversion"
    prepared = log.prepare(tmp_path / "micros")
    found = values_of(prepared)
    assert {key: pytest.approx(list(values)) for key, values in clean.items()} == {k: list(v) for k, v in found.items()}
    assert prepared.account["ecpm_rates"]["amounts_left_out"] == 1


def test_what_users_paid_stays_beside_it_and_two_orders_do_not_double_it(tmp_path: Path) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 100, clicks=20, orders=4, price=50.0)
    log.rows.insert(3, {**log.rows[2], "event_id": "again"})
    prepared = log.prepare(tmp_path)
    sequences = [sequence for shard in prepared.sequences() for sequence in read_sequences(shard)]
    ordered = [sequence for sequence in sequences if (sequence.action_H == ACTIONS.index("conversion")).any()]
    requests = [request for sequence in ordered for request in requests_in(sequence, "train")]
    worth = 1000 * 5 / 100 * 50
    assert [request.ad_targets() for request in requests] == [{"item0": pytest.approx(worth)}] * 4
    assert max(len(request.target_positions) for request in requests) == 2
    assert {float(sequence.value_H[sequence.action_H == ACTIONS.index("conversion")][0]) for sequence in ordered} == {
        50
    }


def test_organic_events_are_worth_nothing(tmp_path: Path) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 10, clicks=5, orders=5, price=3.0)
    log.show("item2", "organic", 1, clicks=1, orders=1, price=3.0)
    for row in log.rows[-3:]:
        row["item_kind"] = "organic"
    prepared = log.prepare(tmp_path)
    assert value_of(prepared, "item2", "organic") == 0 and value_of(prepared, "item0") == pytest.approx(1500)


@pytest.mark.parametrize(
    ("actions", "logs", "told"),
    [
        (("click", "conversion"), {}, r"logs\.value: needs impressions, and the training split holds none; got 'ecpm'"),
        (("impression", "click"), {}, "no training event of an ad has a bid"),
    ],
)
def test_a_log_that_cannot_tell_it_is_refused(tmp_path: Path, actions: tuple, logs: dict, told: str) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 30, clicks=10, orders=10)
    log.rows = [row for row in log.rows if row["action"] in actions]
    with pytest.raises(UserError, match=told) as refusal:
        log.prepare(tmp_path, **logs)
    assert "price_or_bid" in str(refusal.value)


@pytest.mark.parametrize("files", [{"impressions": "sampled"}, None])
def test_a_log_of_sampled_impressions_is_refused_before_it_is_read(tmp_path: Path, files: dict | None) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 30, clicks=10, orders=10, price=1.0)
    with pytest.raises(UserError, match=r"sampled or implied impressions only; got 'ecpm'; set logs\.value: price"):
        log.prepare(tmp_path, **({"files": files} if files else {"source": "completejourney"}))
    assert not (tmp_path / "prepared").exists()


def test_by_default_nothing_is_added(tmp_path: Path) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 30, clicks=10, orders=10, price=2.5, bid=1.0)
    prepared = log.prepare(tmp_path, value="price_or_bid")
    assert prepared.value == "price_or_bid" and prepared.ecpm_rates() is None
    assert not (prepared.folder / "ecpm_rates").exists()
    assert all(pq.read_schema(shard).names == SEQUENCE_SCHEMA.names for shard in prepared.sequences())
    assert values_of(prepared) == {("item0", "feed"): {1.0, 2.5}, ("item2", "feed"): {0.0}}


def test_the_setting_decides_whether_a_prepared_log_is_current(tmp_path: Path) -> None:
    log = random_log(50)
    settings = log.settings(tmp_path)
    prints = [describe(LogsConfig.parse(settings | {"value": value}), [])["fingerprint"]
              for value in ("price_or_bid", "ecpm")]  # fmt: skip
    del settings["value"]
    assert describe(LogsConfig.parse(settings), [])["fingerprint"] == prints[0] != prints[1]


def test_the_same_log_gives_the_same_bytes(tmp_path: Path) -> None:
    log = random_log(300)
    hashes = [log.prepare(tmp_path / name).manifest["files"] for name in ("a", "b")]
    assert hashes[0] == hashes[1] and "ecpm_rates/ads.parquet" in hashes[0]
    assert not any("partial" in name for name in hashes[0])


def test_rates_are_read_back(tmp_path: Path) -> None:
    prepared = random_log(300).prepare(tmp_path)
    rates = prepared.ecpm_rates()
    assert rates is not None
    (known,) = values_of(prepared)["item0", "feed"]
    told = rates.values(pa.array(["item0", "no such ad", "item0"]), pa.array(["feed", "feed", "no such scene"]))
    assert told[0] == pytest.approx(known) and (told > 0).all() and len(set(told.tolist())) == 3
