"""The page on one's own log, followed to the letter: its YAML on CSV files with its column names."""

from __future__ import annotations

import csv
import datetime
import random
import re
from pathlib import Path

import pytest
import yaml

from adbeam.config import Config
from adbeam.logs.pipeline import run
from adbeam.serving.config import ServingConfig

PAGE = Path(__file__).parents[3] / "docs" / "your-own-log.md"


FIRST, MORE = PAGE.read_text(encoding="utf-8").split("\n## A log that tells more\n")
"""Both walks of the page."""


def _blocks(language: str, walk: str = FIRST) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", walk, re.DOTALL)


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """log.csv and ads.csv with the page's own headers and example rows, and more rows of the same kind."""
    log, ads = (block.splitlines() for block in _blocks("csv"))
    maker = random.Random(0)
    example = [line.split(",") for line in log[1:]]
    known = [line.split(",") for line in ads[1:]]
    known += [[f"X{number}", f"Item {number}", "hats", "East", str(5 + number)] for number in range(20)]
    start = datetime.datetime(2025, 3, 1)
    rows: list[list[str]] = []
    for visit in range(300):
        moment = start + datetime.timedelta(hours=visit * 2)
        bought = maker.choice(known)[0]
        rows.append([f"u{visit % 12}", moment.isoformat(), bought, "order", "9.5", f"w{visit}", "home"])
    _write(tmp_path / "log.csv", log[0].split(","), [*example, *rows])
    _write(tmp_path / "ads.csv", ads[0].split(","), known)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_pages_yaml_prepares_the_pages_log(files: Path) -> None:
    config = Config.parse(yaml.safe_load(_blocks("yaml")[0]), source="docs/your-own-log.md")
    prepared = run(config, in_process=True)
    account = prepared.account
    assert account["kept"] == 303
    assert account["quarantined"] == 0
    assert all(account["splits"][split] > 0 for split in ("train", "validation", "test"))


def test_the_second_yaml_fits_into_the_first() -> None:
    whole = yaml.safe_load(_blocks("yaml")[0])
    whole["logs"]["files"] |= yaml.safe_load(_blocks("yaml")[1])
    assert Config.parse(whole).logs.files is not None


@pytest.fixture
def telling_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three files of the second walk: the page's own rows, and more of the same kind."""
    log, members, ads = ([*csv.reader(block.splitlines())] for block in _blocks("csv", MORE))
    start = datetime.datetime(2025, 3, 1)
    ads += [[f"X{number}", f"Item {number}", "hats", "East", "autumn", "9", ""] for number in range(8)]
    for visit in range(300):
        moment = (start + datetime.timedelta(hours=visit * 2)).isoformat()
        at = [f"w{visit}", ("phone", "laptop")[visit % 2], ("north", "south")[visit % 3 // 2]]
        log.append([f"u{17 + visit % 5}", moment, f"X{visit % 8}", "order", "9.5", *at])
    for name, (header, *rows) in (("log.csv", log), ("members.csv", members), ("ads.csv", ads)):
        _write(tmp_path / name, header, rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_second_walk_tells_the_model_of_users_requests_and_items(telling_files: Path) -> None:
    config = Config.parse(yaml.safe_load(_blocks("yaml", MORE)[0]), source="docs/your-own-log.md")
    prepared = run(config, in_process=True)
    account, encoder = prepared.account, prepared.told()
    assert (account["kept"], account["quarantined"], account["catalogue"]["quarantined"]) == (303, 0, 0)
    assert account["source"]["rows of users kept"] == 3
    assert encoder is not None and list(encoder.shapes) == ["age_band", "device", "interests", "region"]
    assert list(encoder.item_shapes) == ["group", "maker"]
    rules = {row["item_id"]: row["targeting"] for row in prepared.catalogue().to_pylist()}
    assert rules["A100"] == '{"region":{"in":["east","north"]}}' and rules["C310"] is None
    assert {row["campaign"] for row in prepared.catalogue().to_pylist()} == {"spring", "summer", "autumn"}


def test_what_serves_the_second_walk_means_the_same_features() -> None:
    jobs, args = (yaml.safe_load(block) for block in _blocks("yaml", MORE))
    config = Config.parse(jobs, source="docs/your-own-log.md")
    served = ServingConfig.resolve({"bundle": "runs/told/bundles", **args})
    told = {name: (one.kind, one.source) for name, one in config.features.items() if one.source != "item"}
    assert {name: (one.kind, one.source) for name, one in served.features.items()} == told
    assert served.list_rules.most_per_advertiser == 2 and served.frequency_caps and served.budgets.path
