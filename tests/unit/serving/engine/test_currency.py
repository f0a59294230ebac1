"""The currency of a bundle's money and that of the bids: the same, or nothing is served."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from tests.support.bundles import write_random_bundle

from adbeam.beams.cost import BatchCost
from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import describe
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.bundle_follower import first_model
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.stores.sqlite import SqliteStore


def served(folder: Path, currency: str) -> LoadedModel:
    config = ServingConfig.resolve({"bundle": str(folder), "openrtb": {"currency": currency}})
    loader = partial(load_model, cost=BatchCost(1.0, 0.5, 0.01))
    return first_model(loader, config, read_policy("static"), SqliteStore(folder / "h.sqlite"), Metrics())


def test_bids_in_another_currency_than_the_bundles_are_refused_naming_both(tmp_path: Path) -> None:
    write_random_bundle(tmp_path, 40)  # an earlier bundle that declares nothing does not stand in
    write_random_bundle(tmp_path, 40, currency="EUR")
    with pytest.raises(
        UserError, match=r"money in EUR, and bids are made in USD.*set openrtb.currency to EUR"
    ) as error:
        served(tmp_path, "USD")
    assert error.value.field == "openrtb.currency"
    assert served(tmp_path, "EUR").version


def test_a_bundle_that_declares_none_is_served_in_any(tmp_path: Path) -> None:
    write_random_bundle(tmp_path, 40)
    assert served(tmp_path, "SEK").version


@pytest.mark.parametrize("currency", ["usd", "US", "EURO", "", "12A", 1])
def test_what_is_no_currency_code_is_refused(currency: object) -> None:
    with pytest.raises(UserError, match="currency"):
        Config.parse({"logs": {"currency": currency}})
    with pytest.raises(UserError, match="currency"):
        ServingConfig.parse({"openrtb": {"currency": currency}})


def test_declaring_it_leaves_a_prepared_log_current() -> None:
    assert describe(LogsConfig(), []) == describe(LogsConfig.parse({"currency": "EUR"}), [])
