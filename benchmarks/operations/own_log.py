"""A log that adbeam has not seen, taken by the page on one's own log from two exports to a served ad."""

from __future__ import annotations

import csv
import datetime
import gzip
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "your-own-log.md"
USERS, VISITS, ADS = 150, 3000, 120
SHAPE = """
logs:
  source: files
  files:
    events:
      path: export
      columns: {user_id: client, timestamp: at, item_id: sku, action: kind, price: paid, request_id: session}
      values:
        action: {0: impression, 1: click, 9: conversion}
      timestamp_unit: s
    catalogue:
      path: shelf.csv
      columns: {item_id: sku, title: label, category: aisle, price: list_price}
      constants: {advertiser: house}
  split: {by: time, validation_from: 2025-03-25, test_from: 2025-03-28}
"""
"""What docs/your-own-log.md makes of a log that looks otherwise than its example: a folder of two compressed files,
seconds since 1970, numbers for actions, no scene. Nothing here is not named on that page."""


MORE = "## A log that tells more"
"""The heading of the page's second walk."""


@dataclass(frozen=True)
class Page:
    """One of the page's walks."""

    text: str

    def blocks(self, language: str) -> list[str]:
        """What stands between its fences of a language."""
        return re.findall(rf"```{language}\n(.*?)```", self.text, re.DOTALL)

    @property
    def commands(self) -> list[list[str]]:
        """The words after `adbeam` of every command line."""
        lines = [line for block in self.blocks("bash") for line in block.splitlines()]
        return [shlex.split(line)[1:] for line in lines if line.startswith("adbeam ")]


@dataclass(frozen=True)
class Walks:
    """Both walks of the page."""

    first: Page
    more: Page


def page() -> Walks:
    """The page as it stands."""
    first, more = PAGE.read_text(encoding="utf-8").split(f"\n{MORE}\n")
    return Walks(Page(first), Page(more))


def minutes_to_an_ad(folder: Path, port: int) -> float:
    """Minutes from a CSV log and a catalogue to a served ad, by the commands of the page in their order."""
    _write_log(folder)
    serving = ROOT / "serving"
    shutil.copytree(serving, folder / serving.name)
    first = page().first
    blocks = [yaml.safe_load(block) for block in first.blocks("yaml")]
    small = next(block for block in blocks if "decoding" in block)
    (folder / "jobs").mkdir()
    settings = {"size": blocks[0]["size"], "work_dir": blocks[0]["work_dir"], **yaml.safe_load(SHAPE), **small}
    (folder / "jobs" / "mine.yaml").write_text(yaml.safe_dump(settings))
    began = time.monotonic()
    for command in first.commands:
        if command[0] == "serve":
            server = serve(folder, command, port)
        elif command[0] == "request":
            answer = run_adbeam(folder, *_with_user(command), "--url", f"http://127.0.0.1:{port}")
        else:
            run_adbeam(folder, *command)
    minutes = (time.monotonic() - began) / 60
    server.send_signal(signal.SIGINT)
    server.wait(60)
    assert re.search(r"\bA\d+\b", answer), f"no ad was served: {answer}"
    return minutes


def _with_user(command: list[str]) -> list[str]:
    place = command.index("--user") + 1
    return [*command[:place], "client-1", *command[place + 1 :]]


def serve(folder: Path, command: list[str], port: int) -> subprocess.Popen[bytes]:
    """`adbeam serve`, once it answers; its output goes to serve.log."""
    words = [sys.executable, "-m", "adbeam.cli", *command, "--port", str(port)]
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    while b"serving ads on" not in (folder / "serve.log").read_bytes():
        if server.poll() is not None:
            raise SystemExit((folder / "serve.log").read_text())
        time.sleep(0.2)
    return server


def _write_log(folder: Path) -> None:
    """export/*.csv.gz and shelf.csv, columns as in SHAPE: users return to a category of their own."""
    maker, groups = random.Random(0), ("shoes", "jackets", "hats", "tents")
    shelf = [[f"A{number}", f"{groups[number % 4]} {number}", groups[number % 4], 10 + number] for number in range(ADS)]
    _write_csv(folder / "shelf.csv", ["sku", "label", "aisle", "list_price"], shelf)
    start, events = int(datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC).timestamp()), []
    for visit in range(VISITS):
        user = maker.randrange(USERS)
        moment = start + visit * 30 * 86_400 // VISITS
        seen, bought = (maker.randrange(ADS // 4) * 4 + user % 4 for _ in range(2))
        events.append([moment, f"client-{user}", f"s{visit}", f"A{seen}", 0, ""])
        events.append([moment + 20, f"client-{user}", f"s{visit}", f"A{bought}", 9, 5 + bought])
    (folder / "export").mkdir()
    for part, rows in enumerate((events[:VISITS], events[VISITS:])):
        header = ["at", "client", "session", "sku", "kind", "paid"]
        _write_csv(folder / "export" / f"part-{part}.csv.gz", header, rows)


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def run_adbeam(folder: Path, *arguments: str) -> str:
    """Run a command line and return what it printed; stops the benchmark when it fails."""
    words = [sys.executable, "-m", "adbeam.cli", *arguments]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise SystemExit(f"adbeam {shlex.join(arguments)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout
