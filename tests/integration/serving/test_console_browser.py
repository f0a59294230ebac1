"""The console in a real headless Chromium: what it shows, by keyboard alone, light and dark, wide and at 400 pixels."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.support.bundles import SCENES, write_random_bundle
from tests.support.tools import tool

from adbeam.bundle import load_bundle, write_again
from adbeam.declared.encoder import FeatureEncoder, FittedFeature
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.http.app import build_api
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore

PORT = 18800
IMAGES = os.environ.get("ADBEAM_CONSOLE_IMAGES")
"""Where the screenshots of docs/images/ are written when they are made anew."""
PROCESSOR = re.compile(
    r"^Processor: own \d+ %, waited \d+ % of the decode time of 10 s(; pressure \d+ %)?(; stolen \d+ %)?$"
)
SERIOUS = ("serious", "critical")
HERE, NOT_HERE = '{"os":{"in":["android","ios"]}}', '{"os":{"in":["windows"]}}'
TOLD = FeatureEncoder(
    (
        FittedFeature("age", "number", "user", edges=(30.0, 50.0)),
        FittedFeature("os", "category", "request", words=("ios", "android")),
    )
)


@contextmanager
def console(folder: Path, port: int = PORT, **args: Any) -> Iterator[str]:
    """The application without Ray on a port of its own; yields the address of its console."""
    told = args.pop("told", None)
    bundle = write_random_bundle(folder / "bundles", 3000, told=told)
    if told is not None:
        loaded = load_bundle(bundle)
        rules = [NOT_HERE if row % 3 == 0 else HERE for row in range(len(loaded.catalogue))]
        catalogue = loaded.catalogue.append_column("targeting", pa.array(rules, pa.string()))
        bundle = write_again(folder / "bundles", loaded, {}, catalogue=catalogue)
    config = ServingConfig.parse({"deadline": {"max_ms": 60_000}, **args})
    policy = read_policy({"policy": "deadline", "default_deadline_ms": 5000})
    store, metrics = SqliteStore(folder / "h.sqlite"), Metrics()
    model = load_model(bundle, config, policy, store, metrics)
    service = RecommenderService(config, model, policy, store, metrics)
    api: FastAPI = build_api(service)

    async def started() -> None:
        service.start()

    api.router.on_startup.append(started)
    server = uvicorn.Server(uvicorn.Config(api, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/console"
    finally:
        server.should_exit = True
        thread.join(10)
        service.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = tool("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program)
        yield running
        running.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with console(tmp_path_factory.mktemp("console")) as url:
        yield url


@contextmanager
def page_of(browser: Browser, address: str, width: int = 1280, scheme: Any = "light") -> Iterator[Page]:
    """An open console that must log no error."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(address)
    expect(page.locator("#state")).to_contain_text("policy deadline")
    yield page
    page.close()
    assert not faults


def ask(page: Page, **fields: str) -> None:
    for name, value in fields.items():
        page.fill(f"#{name}", value)
    page.click("#request button[type=submit]")
    expect(page.locator("#outcome")).to_contain_text("Decoded at widths")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_page_shows_load_ads_and_paths_without_an_accessibility_fault(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    with page_of(browser, address, width, scheme) as page:
        ask(page, user_id="u1", history="item-3, item-7")
        expect(page.locator("#latency .value")).not_to_have_text("–")
        expect(page.locator("#path li")).to_have_count(4)
        expect(page.locator("#processor")).to_have_text(PROCESSOR)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page).response["violations"]
        assert not [fault["id"] for fault in found if fault["impact"] in SERIOUS], found
        if IMAGES:
            for _ in range(40):
                ask(page, count="8")
                page.wait_for_timeout(500)
            page.screenshot(path=f"{IMAGES}/console-{width}.png", full_page=True)


def test_everything_in_the_page_is_what_the_application_answers(browser: Browser, address: str) -> None:
    with page_of(browser, address) as page:
        with page.expect_response("**/v1/ads") as answered:
            ask(page, count="5")
        ads = answered.value.json()["ads"]
        rows = page.locator("#ads tr")
        assert [row.locator(".id").inner_text() for row in rows.all()] == [ad["item_id"] for ad in ads]
        assert rows.nth(2).locator(".code").all_inner_texts() == [str(code) for code in ads[2]["sid"]]
        with page.expect_response("**/v1/path**") as asked:
            rows.nth(2).locator("button").click()
        steps = asked.value.json()["steps"]
        assert [step["prefix"] for step in steps] == [ads[2]["sid"][:length] for length in range(4)]
        expect(page.locator("#path li").nth(0)).to_contain_text(f"{steps[0]['branches']} live branch")
        expect(page.locator("#path li").nth(3)).to_contain_text(f"{steps[3]['leaves']} live ad")
        assert page.locator("#scene option").all_inner_texts() == list(SCENES)
        assert page.locator("#ladder li[aria-current]").inner_text().split() == ["8", "·", "16", "·", "32"]
        settings = page.locator("#policy").inner_text().split()
        assert settings[settings.index("default_deadline_ms") + 1] == "5000"


def test_the_keyboard_alone_is_enough(browser: Browser, address: str) -> None:
    with page_of(browser, address) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "user_id"
        page.keyboard.type("keyboard user")
        page.keyboard.press("Enter")
        expect(page.locator("#outcome")).to_contain_text("nothing is known about the user")
        rows = page.locator("#ads tr")
        for _ in range(20):
            page.keyboard.press("Tab")
            if rows.nth(1).locator("button").evaluate("button => button === document.activeElement"):
                break
        page.keyboard.press("Space")
        expect(rows.nth(1).locator("button")).to_have_attribute("aria-pressed", "true")
        page.focus("#event")
        page.keyboard.press("Enter")
        expect(page.locator("#outcome")).to_contain_text("Recorded a conversion of")
        page.focus("#user_id")
        page.keyboard.press("Enter")
        expect(page.locator("#outcome")).to_contain_text("Decoded")
        expect(page.locator("#outcome")).not_to_contain_text("nothing is known")


def test_a_refusal_is_shown_in_the_words_of_the_application(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    expect(page.locator("#scene option")).to_have_count(2)
    page.fill("#deadline_ms", "70000")
    page.click("#request button[type=submit]")
    expect(page.locator("#outcome.bad")).to_contain_text("deadline_ms: Input should be less than or equal to 60000")
    page.close()


@pytest.mark.parametrize("mode", ["bearer", "api_key"])
def test_with_authentication_on_the_page_asks_for_the_token_and_sends_it(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("ADBEAM_API_KEYS", "secret-one")
    with console(tmp_path, PORT + 1, auth={"mode": mode}) as url:
        page = browser.new_page()
        page.goto(url)
        expect(page.locator("#state.bad")).to_have_text("credentials are missing or wrong")
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token")).to_be_visible()
        page.fill("#token", "secret-one")
        page.keyboard.press("Enter")
        expect(page.locator("#state")).to_contain_text("policy deadline")
        expect(page.locator("#credentials")).to_be_hidden()
        ask(page)
        page.close()


def test_with_an_admin_key_an_answer_is_explained(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADBEAM_ADMIN_KEYS", "key-of-an-admin")
    features = {one.name: {"kind": one.kind, "source": one.source, "model": True} for one in TOLD.features}
    args = {"features": features, "admin": {"mode": "bearer"}, "list_rules": {"most_per_sid": 1}, "told": TOLD}
    with console(tmp_path, PORT + 2, **args) as url, page_of(browser, url) as page:
        ask(page, context='{"os": "ios"}', profile='{"age": 41}')
        expect(page.locator("#why")).to_be_hidden()
        with page.expect_response("**/v1/ads") as answered:
            ask(page, admin_key="key-of-an-admin")
        debug = answered.value.json()["debug"]
        expect(page.locator("#told tr")).to_have_count(2)
        told = [row.locator("td").all_inner_texts() for row in page.locator("#told tr").all()]
        assert told == [["age", "41", "30 to 50"], ["os", "ios", "ios"]]
        passed = [row.locator("td").all_inner_texts() for row in page.locator("#passed tr").all()]
        assert [row[0] for row in passed] == [ad["item_id"] for ad in answered.value.json()["ads"]]
        assert {tuple(row[1:]) for row in passed} == {("targeting, most per sid", "os in android, ios")}
        failed = {row.locator("td").all_inner_texts()[2] for row in page.locator("#failed tr").all()}
        assert "os in windows" in failed and page.locator("#failed tr").count() == len(debug["left_out"]) > 5
        assert (
            page.locator("#closed tr").all_inner_texts()
            == ["targeting\t1,000"]
            == [f"{name}\t{rows:,}" for name, rows in debug["closed"].items()]
        )
        found = Axe().run(page).response["violations"]
        assert not [fault["id"] for fault in found if fault["impact"] in SERIOUS], found
