"""Bid requests of the specifications' examples and of the field, each with the right answer."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator
from tests.support.openrtb.cases import bids_of, faults, read_cases
from tests.support.openrtb.exchange import SETTINGS, exchange, row_of, write_exchange_bundle

CASES = read_cases(Path(__file__).parent / "cases")
SCHEMA = Path(__file__).parents[3] / "schemas/openrtb/bid_response.json"
BANNER: dict[str, Any] = {"id": "r", "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}], "user": {"id": "u17"}}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exchange_bundle(tmp_path_factory.mktemp("exchange"))


@pytest.mark.parametrize("settings", SETTINGS)
async def test_every_case_is_answered_right(settings: str, bundle: Path, tmp_path: Path) -> None:
    schema = Draft202012Validator(json.loads(SCHEMA.read_text()))
    wrong: dict[str, list[str]] = {}
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(exchange(bundle, tmp_path, SETTINGS[settings]))
        for case in CASES:
            if case["settings"] == settings:
                found = await faults(case, asked)
                reply = await asked.ask(case["request"] if "request" in case else case["body"].encode())
                if reply.status == 200:
                    found += [error.message for error in schema.iter_errors(reply.json)]
                wrong |= {case["name"]: found} if found else {}
    assert not wrong


def test_there_are_cases_enough_of_both_specifications() -> None:
    assert len(CASES) >= 40 and sum(case["name"].startswith("2.") for case in CASES) >= 30


async def test_a_wrong_answer_is_seen(bundle: Path, tmp_path: Path) -> None:
    """Where nothing is declared, many cases are answered otherwise."""
    async with exchange(bundle, tmp_path, {}) as asked:
        wrong = [case["name"] for case in CASES if case["settings"] == "full" and await faults(case, asked)]
    assert len(wrong) > 20


async def test_every_bid_says_what_the_columns_of_its_ad_say(bundle: Path, tmp_path: Path) -> None:
    banner = {"format": [{"w": 300, "h": 250}, {"w": 728, "h": 90}]}
    imps = [
        {"id": str(place), "banner": banner, "native": {}, "video": {"mimes": ["video/mp4"]}} for place in range(12)
    ]
    async with exchange(bundle, tmp_path, SETTINGS["full"]) as asked:
        bids = bids_of(await asked.ask({"id": "r", "imp": imps}))
    assert len(bids) == 12
    for bid in bids:
        row = row_of(int(bid["adid"].removeprefix("item-")))
        assert bid["crid"] == row["ad_crid"] and bid.get("w") == row.get("ad_w") and bid.get("bundle") == row["ad_app"]
        assert bid["mtype"] == ["banner", "video", "audio", "native"].index(row["ad_format"]) + 1
        assert bid.get("exp") == row["ad_expires"] and bid["cat"] == row["ad_categories"].split()
        domains = (row["ad_domains"] or "").lower().removeprefix("www.")
        assert ",".join(bid.get("adomain", ())) == domains
        assert f"ad={bid['adid']}&price=${{AUCTION_PRICE}}" in bid["nurl"]


async def test_a_deal_at_a_fixed_price_is_bid_at_it(bundle: Path, tmp_path: Path) -> None:
    pmp = {"private_auction": 1, "deals": [{"id": "d1", "bidfloor": 2, "bidfloorcur": "EUR", "at": 3}]}
    async with exchange(bundle, tmp_path, SETTINGS["full"]) as asked:
        (bid,) = bids_of(await asked.ask({"id": "r", "imp": [{**BANNER["imp"][0], "pmp": pmp}], "cur": ["JPY"]}))
    assert (bid["dealid"], bid["price"]) == ("d1", 400.0)


async def test_what_is_not_bid_on_is_counted_by_reason(bundle: Path, tmp_path: Path) -> None:
    async with exchange(bundle, tmp_path, SETTINGS["full"]) as asked:
        for changes in ({"wseat": ["x"]}, {"cur": ["CHF"]}, {"bcat": ["1"], "cattax": 2},
                        {"imp": [{**BANNER["imp"][0], "pmp": {"private_auction": 1}}]}):  # fmt: skip
            assert (await asked.ask({**BANNER, **changes})).status == 204
        counted = {dict(tags)["reason"]: value for (name, tags), value in asked.metrics.take()[0].items()
                   if name == "adbeam_bids_bounded"}  # fmt: skip
    assert counted == {"seat": 1, "currency": 1, "taxonomy": 1, "deal": 1}


async def test_a_test_is_answered_and_not_logged(bundle: Path, tmp_path: Path) -> None:
    for name, test in (("test", 1), ("real", 0)):
        folder = tmp_path / name
        log = {"folder": str(folder / "log")}
        async with exchange(bundle, folder, SETTINGS["full"], request_log=log) as asked:
            assert bids_of(await asked.ask({**BANNER, "test": test}))
        rows = [row for path in (folder / "log").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
        assert len(rows) == (0 if test else 1)
