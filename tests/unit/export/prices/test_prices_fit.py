"""Prices against a log whose truth is known: rates by ad and user, money by ad, one scene dearer than the other."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from adbeam.export.prices.counts import AdCounts, smoothed
from adbeam.export.prices.curve import fit_curve
from adbeam.export.prices.fit import ad_table, fit_scale, poisson
from adbeam.export.prices.held_out import Impressions
from adbeam.pricing.scale import AdPrices, MoneyScale, live_factor, prices_of

ADS, SHOWN = 40, 60_000
ITEMS = [f"ad{n:02d}" for n in range(ADS)]


def truth(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rate of each ad, its money of a target, its share of all targets)."""
    rate_N = 0.02 * np.exp(rng.normal(scale=0.6, size=ADS))
    worth_N = np.round(np.exp(rng.normal(scale=0.8, size=ADS)), 2) + 0.5
    return rate_N, worth_N, rate_N / rate_N.sum()


def log_of(rng: np.random.Generator, shown: int) -> tuple[Impressions, np.ndarray]:
    """Impressions with outcomes, and the true money of a thousand of each: users like an ad e^lift as much."""
    rate_N, worth_N, share_N = truth(np.random.default_rng(0))
    ad, lift, late = rng.integers(ADS, size=shown), rng.normal(scale=0.7, size=shown), rng.random(shown) < 0.5
    rate = rate_N[ad] * np.exp(0.8 * lift) * np.where(late, 1.3, 0.8)
    targets = (rng.random(shown) < rate).astype(float)
    return Impressions(
        np.array([ITEMS[n] for n in ad], object), np.where(late, "late", "early").astype(object), np.ones(shown),
        np.zeros(shown), targets, targets * worth_N[ad], np.log(share_N[ad]) + lift, np.full(shown, worth_N.mean()),
    ), 1000 * rate * worth_N[ad]  # fmt: skip


def counts_of(seen: Impressions) -> AdCounts:
    table = pa.table(
        {"item_id": seen.item_X.tolist(), "scene": seen.scene_X.tolist(), "impressions": seen.weight_X,
         "clicks": seen.clicks_X, "targets": seen.targets_X, "valued": seen.targets_X, "paid": seen.targets_X,
         "money": seen.money_X,
         "squares": seen.money_X**2}
    )  # fmt: skip
    return AdCounts(table, lost=0)


def fitted(held: int = SHOWN) -> tuple[AdPrices, Impressions]:
    rng = np.random.default_rng(1)
    seen, _ = log_of(rng, 4 * SHOWN)
    targets = {item: int(seen.targets_X[seen.item_X == item].sum()) for item in ITEMS}
    table = ad_table(counts_of(seen), targets, {item: (n,) for n, item in enumerate(ITEMS)}, "conversion")
    shown, _ = log_of(rng, held)
    return fit_scale(table, shown)[0], shown


def priced(prices: AdPrices, shown: Impressions) -> np.ndarray:
    rows = zip(shown.item_X, shown.scene_X, shown.log_probability_X.tolist(), shown.value_X.tolist(), strict=True)
    return np.array([prices.price(*row) for row in rows])


def test_prices_meet_the_truth_in_all_by_scene_and_by_decile() -> None:
    prices, _ = fitted()
    fresh, true = log_of(np.random.default_rng(2), SHOWN)
    money = priced(prices, fresh)
    assert money.sum() == pytest.approx(true.sum(), rel=0.05)
    for scene in ("early", "late"):
        chosen = fresh.scene_X == scene
        assert money[chosen].sum() == pytest.approx(true[chosen].sum(), rel=0.08)
    for part in np.array_split(np.argsort(money), 10):
        assert money[part].sum() == pytest.approx(true[part].sum(), rel=0.15)
    assert prices.scale.slope == pytest.approx(0.8, abs=0.1)


def test_without_held_out_impressions_an_ad_is_priced_by_its_own_rate() -> None:
    prices, _ = fitted(held=0)
    rate_N, worth_N, _ = truth(np.random.default_rng(0))
    own = np.array([prices.price(item, "early", -3.0, 1.0) for item in ITEMS])
    expected = 1000 * rate_N * worth_N * np.exp(0.8**2 * 0.7**2 / 2) * 1.05
    assert own == pytest.approx(expected, rel=0.3)
    assert own == pytest.approx([prices.plain(item) for item in ITEMS], rel=1e-6)


def test_an_ad_that_was_never_shown_goes_by_what_the_model_says_and_the_rate_of_all() -> None:
    prices, _ = fitted()
    assert not prices.knows("new") and prices.plain("new") is None
    twice = prices.price("new", "early", -5.0, 8.0) / prices.price("new", "early", -5.0, 4.0)
    assert 1.8 < twice < 2.2
    assert prices.price("new", "early", -3.0, 4.0) > prices.price("new", "early", -5.0, 4.0)


def test_a_thousand_times_more_impressions_an_order_is_a_thousandth_of_the_price() -> None:
    rng = np.random.default_rng(3)
    seen, _ = log_of(rng, SHOWN)
    scarce = Impressions(**{**vars(seen), "weight_X": seen.weight_X * 1000})
    one, other = (
        fit_scale(ad_table(counts_of(part), {}, {item: (n,) for n, item in enumerate(ITEMS)}, "conversion"), part)[0]
        for part in (seen, scarce)
    )
    ratio = priced(one, seen).sum() / priced(other, seen).sum()
    assert ratio == pytest.approx(1000, rel=0.03)


def test_few_counts_are_drawn_to_the_rate_of_all_and_many_are_not() -> None:
    rate_N, overall = smoothed(np.array([1.0, 0.0, 500.0, 40.0]), np.array([2.0, 2.0, 10_000.0, 4_000.0]))
    assert overall == pytest.approx(541 / 14_004)
    assert rate_N[0] < 0.3 and rate_N[1] > 0.005 and rate_N[2] == pytest.approx(0.05, rel=0.02)


def test_poisson_without_events_keeps_its_prior() -> None:
    none = np.zeros(0)
    assert poisson(np.zeros((0, 2)), np.array([1.0, 0.0]), none, none).tolist() == [0.0, 1.0, 0.0]


def test_the_curve_rises_and_few_events_bend_it_little() -> None:
    rng = np.random.default_rng(4)
    money = np.exp(rng.normal(size=5000))
    at, by = fit_curve(money, np.full(5000, 0.004), rng.random(5000) < 0.004)
    assert all(np.diff(np.array(at) + np.array(by)) > -1e-9) and max(map(abs, by)) < 0.4


def test_cheap_ads_that_are_worth_more_than_dearer_ones_keep_their_worth() -> None:
    money = np.repeat([50.0, 90.0, 200.0], 10_000)
    came = np.repeat([60.0, 50.0, 180.0], 10_000) / money
    at, by = fit_curve(money, np.ones(30_000), came)
    for price, worth in ((50.0, 55.0), (90.0, 55.0), (200.0, 180.0)):
        moved = price * np.exp(np.interp(np.log(price), at, by))
        assert moved == pytest.approx(worth, rel=0.12)


def test_a_live_ecpm_moves_a_price_in_proportion_within_bounds() -> None:
    assert live_factor(4.5, 3.0) == 1.5 and live_factor(None, 3.0) == live_factor(3.0, None) == 1.0
    assert live_factor(4_500_000.0, 3.0) == 10.0 and live_factor(1e-9, 3.0) == 0.1 and live_factor(0.0, 3.0) == 0.0


def test_the_scale_survives_json_and_prices_are_bounded() -> None:
    scale = MoneyScale(1.0, -9.0, -1.0, 0.0, ((0.0, 1.0), (0.1, 0.3)), {"a": 2.0})
    assert MoneyScale.from_dict(scale.as_dict()) == scale
    prices = prices_of(scale, ["x"], base=np.array([99.0]), own=np.ones(1), mean=np.ones(1), plain=np.ones(1))
    assert prices.price("x", "a", 0.0, 1.0) <= 1e12
    assert prices.price("y", "a", -3.0, 0.0) == 0.0
