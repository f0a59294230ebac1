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

PAGE = Path(__file__).parents[3] / "docs" / "your-own-log.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


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
