"""Caps and owners over the channel of the decode process: the same as in one process, and heard of as they change."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.replicas import write_tokenized_bundle

from adbeam.beams.cost import BatchCost
from adbeam.catalogue.blocked import Blocked
from adbeam.catalogue.owners import Owner
from adbeam.catalogue.updates import AdChange
from adbeam.list_rules.caps import Worn
from adbeam.records import Event
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.channel import Gathered
from adbeam.serving.engine.process import load_in_process
from adbeam.serving.engine.request import Query
from adbeam.serving.stores.sqlite import SqliteStore

WIDE, NOW_MS = (8, 32, 512), 1_777_000_000_000


def test_the_decode_process_knows_what_users_have_seen_enough_of(tmp_path: Path) -> None:
    write_tokenized_bundle(tmp_path / "bundles", 40)
    args = {
        "bundle": "bundles", "store": {"path": "h.sqlite"}, "updates": {"path": "updates.sqlite", "poll_ms": 20},
        "list_rules": {"most_per_campaign": 1}, "frequency_caps": [{"of": "campaign", "most": 1, "hours": 24}],
    }  # fmt: skip
    config = ServingConfig.resolve(args, tmp_path)
    store = SqliteStore(config.store.path)
    model = load_in_process(
        config.bundle, config, read_policy("deadline"), store, Gathered(), BatchCost(1.0, 1.0, 0.01)
    )
    try:
        assert model.worn is not None and model.live is not None
        query = Query("u", None, "display", 20, NOW_MS, Blocked())
        assert model.worn([query]) == [Worn()]
        before = model.engine.answer([query], [WIDE])[0]
        model.live.change([
            AdChange(operation="update", item_id=item_id, campaign="spring") for item_id in ("ad1", "ad2", "ad3")
        ])  # fmt: skip
        assert model.owners.owner("ad1", Owner()).campaign == "spring"
        assert model.campaigns is not None and model.campaigns(["ad1", "ad9", "unknown"]) == ["spring", None, None]
        assert model.why is not None and model.why(replace(query, spent=frozenset({"spring"})), ["ad1"]).refused == [
            ["budget"]
        ]
        assert not {"ad1", "ad2", "ad3"} & {ad["item_id"] for ad in model.still_shown(before, query.told)}
        answer = model.engine.answer([query], [WIDE])[0]
        assert len(answer.ads) == 20 and [ad.get("campaign") for ad in answer.ads].count("spring") <= 1
        event = {"event_id": "e", "request_id": "r", "user_id": "u", "timestamp": NOW_MS - 1, "item_id": "ad1"}
        store.append([Event.model_validate({**event, "action": "impression"})])
        assert model.worn([query, query]) == [Worn(campaigns=frozenset({"spring"}))] * 2
        started = time.monotonic()
        answer = model.engine.answer([query], [WIDE])[0]
        assert time.monotonic() - started < 5
        assert len(answer.ads) == 20 and "spring" not in {ad.get("campaign") for ad in answer.ads}
    finally:
        if model.live is not None:
            model.live.stop()
        model.engine.close()


@pytest.mark.parametrize("most", [0, -1])
def test_a_cap_that_is_none_never_reaches_it(most: int) -> None:
    with pytest.raises(Exception, match="frequency_caps"):
        ServingConfig.parse({"frequency_caps": [{"of": "ad", "most": most, "hours": 1}]})
