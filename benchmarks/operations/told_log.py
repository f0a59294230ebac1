"""A log with users, devices and regions and a catalogue with rules, taken to a served, targeted ad.

By the commands of the page on one's own log alone.
"""

from __future__ import annotations

import csv
import datetime
import json
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import yaml

from adbeam.targeting.rules import read_rules
from adbeam.targeting.told import Told
from benchmarks.operations.own_log import ROOT, Page, page, run_adbeam, serve

REGIONS, DEVICES, BANDS = ("north", "east", "south", "west"), ("phone", "laptop"), ("18-24", "25-34", "35-44")
GROUPS = ("shoes", "jackets", "hats", "tents")
USERS, VISITS, ADS = 150, 3000, 120


def minutes_to_a_targeted_ad(folder: Path, port: int) -> float:
    """Minutes from the three CSV files to an answer whose ads are all for the request, by the commands of the page.

    Stops the benchmark where an ad of it is for somebody else, or none of them is targeted.
    """
    walk = page().more
    rules = write_files(folder, walk)
    of_repository = ROOT / "serving"
    shutil.copytree(of_repository, folder / of_repository.name, dirs_exist_ok=True)
    (folder / "jobs").mkdir(exist_ok=True)
    write_settings(folder, walk)
    began, answer = time.monotonic(), ""
    for command in walk.commands:
        if command[0] == "serve":
            server = serve(folder, command, port)
        elif command[0] in ("users", "request"):
            answer = run_adbeam(folder, *command, "--url", f"http://127.0.0.1:{port}")
        else:
            run_adbeam(folder, *command)
    minutes = (time.monotonic() - began) / 60
    server.send_signal(signal.SIGINT)
    server.wait(60)
    check_answer(answer, walk, rules)
    return minutes


def check_answer(answer: str, walk: Page, rules: dict[str, str]) -> None:
    """Stop the benchmark unless every ad of the answer is for the page's request, and one of them has rules."""
    words = [word for command in walk.commands for word in command if word.startswith("{")]
    told = {name: value for word in words for name, value in json.loads(word).items()}
    context = sorted((name, tuple(value) if isinstance(value, list) else value) for name, value in told.items())
    asked = Told(tuple(context), "default", 0)
    shown = [item for item in re.findall(r"\b[A-Z]\d{3}\b", answer) if item in rules]
    wrong = [item for item in shown if rules[item] and not read_rules(rules[item], None).hold(asked)]
    if not shown or wrong or not any(rules[item] for item in shown):
        raise SystemExit(f"shown {shown}, of which {wrong} are for others: {answer}")


def write_settings(folder: Path, walk: Page) -> None:
    """jobs/told.yaml with the sizes of the page's small look, and serving/told.yaml."""
    jobs, args = (yaml.safe_load(block) for block in walk.blocks("yaml"))
    small = next(one for one in map(yaml.safe_load, page().first.blocks("yaml")) if "decoding" in one)
    (folder / "jobs" / "told.yaml").write_text(yaml.safe_dump({**jobs, **small}))
    example = folder / (ROOT / "serving" / "ads.yaml").relative_to(ROOT)
    served = yaml.safe_load(example.read_text())
    served["applications"][0]["args"] |= args
    example.with_name("told.yaml").write_text(yaml.safe_dump(served))


def write_files(folder: Path, walk: Page, visits: int = VISITS) -> dict[str, str]:
    """log.csv, members.csv and ads.csv: the page's own rows and more of the same kind; returns {ad: its rules}."""
    log, members, ads = ([*csv.reader(block.splitlines())] for block in walk.blocks("csv"))
    maker = random.Random(0)
    for number in range(ADS):
        there, old_enough = maker.sample(REGIONS, 2), {"not_in": [maker.choice(BANDS)], "missing": True}
        rule = maker.choice([None, {"region": {"in": there}}, {"age_band": old_enough}])
        group, whom = GROUPS[number % 4], json.dumps(rule) if rule else ""
        names = [f"X{100 + number}", f"{group} {number}", group, f"maker{number % 9}", f"order{number % 5}"]
        ads.append([*names, str(10 + number), whom])
    homes = {f"u{100 + user}": maker.choice(REGIONS) for user in range(USERS)}
    members += [[user, "", maker.choice(BANDS), "|".join(maker.sample(GROUPS, 2))] for user in homes]
    start = datetime.datetime(2025, 3, 1)
    for visit in range(visits):
        user, moment = f"u{100 + visit % USERS}", start + datetime.timedelta(days=30 * visit / visits)
        device = maker.choice(DEVICES)
        for seconds, what, amount in ((0, "shown", ""), (20, "order", "9.50")):
            bought, when = f"X{100 + maker.randrange(ADS)}", (moment + datetime.timedelta(seconds=seconds)).isoformat()
            log.append([user, when, bought, what, amount, f"w{visit}", device, homes[user]])
    for name, rows in (("log.csv", log), ("members.csv", members), ("ads.csv", ads)):
        _write(folder / name, rows)
    return {row[0]: str(row[-1]) for row in ads[1:]}


def _write(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
