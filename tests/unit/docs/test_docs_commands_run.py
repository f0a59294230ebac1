"""Documented `adbeam` commands that need no cluster, endpoint or trained model are run as they stand, in a folder that
looks like the repository. Every documented command is either run here or told why not: a new one must be sorted."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from tests.support.replicas import write_tokenized_bundle
from tests.unit.docs.test_docs_commands import FOUND, ROOT
from typer.testing import CliRunner

from adbeam.cli.root import app

RUN = {
    "adbeam config show -c jobs/quickstart.yaml": "work_dir: runs/quickstart",
    "adbeam config show -c jobs/train.yaml": "target_action: ",
    "adbeam cluster render": "all manifests are up to date",
    "adbeam cluster check serving/ads.yaml": "Serve configuration, valid",
    "adbeam doctor": "python",
    "adbeam status --work-dir runs/default": "bundle in force",
    "adbeam status --work-dir runs/default --json": '"bundle": ',
    "adbeam runs --work-dir runs/quickstart": "no runs",
    "adbeam market simulate --work-dir runs/market-small --set users=300 --set ads=400 --set days=14": "simulated",
    "adbeam market simulate --work-dir runs/wide --set ads=400 --set organic_items=200 --set scenes=6 --set segments=8 "
    "--set targeting=true --set users=300 --set days=14": "simulated",
    'adbeam ads add ad-42 --title "dark coffee" --log runs/quickstart/serving/ads.sqlite '
    "--bundle runs/quickstart/bundles": "insert\tad-42\t",
    'adbeam ads add ad-42 --title "dark coffee" --targeting \'{"country": {"in": ["de"]}}\' '
    "--log runs/quickstart/serving/ads.sqlite --bundle runs/quickstart/bundles": "insert\tad-42\t",
    'adbeam ads add ad-42 --title "dark coffee" --advertiser roastery --campaign spring '
    "--log runs/quickstart/serving/ads.sqlite --bundle runs/quickstart/bundles": "insert\tad-42\t",
    "adbeam campaigns set spring --day 100 --total 2500 --pacing even "
    "--budgets runs/quickstart/serving/budgets.sqlite": "spring\tday 100.00",
    "adbeam campaigns set spring --day 100 --total 2500 --pacing even "
    "--budgets runs/told/serving/budgets.sqlite": "spring\tday 100.00",
    "adbeam campaigns list --timezone Europe/Berlin --budgets runs/quickstart/serving/budgets.sqlite": "held back",
    "adbeam campaigns remove spring --budgets runs/quickstart/serving/budgets.sqlite": "no budget",
    "adbeam ads add --file ads.jsonl --log runs/default/serving/ads.sqlite --bundle runs/default/bundles": (
        "insert\tfrom-file\t"
    ),
}  # fmt: skip
"""Documented command -> what its output holds."""

INLINE = {
    "adbeam docs build --check": "",
    "adbeam dashboards build --check": "",
    "adbeam market --help": "play",
}
"""Commands that the pages name inside a sentence."""

NOT_RUN = {
    "adbeam prepare": "Ray; tests/integration/logs",
    "adbeam tokenize": "a prepared log",
    "adbeam train": "a prepared and tokenized log; tests/integration/training",
    "adbeam export": "a trained model",
    "adbeam evaluate": "a bundle of a prepared log",
    "adbeam reprice": "a bundle that has served",
    "adbeam foundation": "a prepared log; tests/unit/foundation",
    "adbeam represent": "a foundation; tests/unit/foundation",
    "adbeam reward": "a prepared log",
    "adbeam generate-lists": "a bundle and a reward model",
    "adbeam online": "logs of an endpoint; tests/integration/online",
    "adbeam sweep": "Ray, many trainings; tests/integration/sweep",
    "adbeam serve": "runs until it is ended; tests/integration/serving",
    "adbeam request": "an endpoint",
    "adbeam loadtest": "an endpoint; tests/unit/loadtest",
    "adbeam market simulate --work-dir runs/market --seed 0": "a market of full size takes minutes",
    "adbeam market play": "a trained model; tests/unit/market",
    "adbeam cluster up": "starts a cluster; tests/integration/cluster",
    "adbeam cluster env": "a local cluster",
    "adbeam cluster nodes": "a local cluster",
    "adbeam cluster kill": "a local cluster",
    "adbeam cluster down": "a local cluster",
    "adbeam jobs": "a cluster; tests/unit/jobs",
    "adbeam status --address": "a cluster",
    'adbeam ads add ad-42 --title "dark coffee 250 g"': "an endpoint",
    "adbeam ads update": "an endpoint; tests/unit/catalogue writes the log",
    "adbeam ads pause": "an endpoint; tests/unit/catalogue writes the log",
    "adbeam ads resume": "an endpoint; tests/unit/catalogue writes the log",
    "adbeam ads remove": "an endpoint; tests/unit/catalogue writes the log",
    "adbeam users set": "an endpoint; tests/unit/cli",
    "adbeam users delete": "an endpoint; tests/unit/cli",
    "adbeam dashboards exporter": "runs until it is ended",
    "adbeam dashboards push": "Grafana; tests/unit/dashboards",
}
"""How a command that is not run begins -> what it needs, or what runs it."""

LINES = {" ".join(line.split()) for _, line in FOUND}
MAY_FIND_FAULTS = {"adbeam doctor"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that commands name, and bundles where the pages have them."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("jobs", "serving", "cluster", "dashboards", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("images"))
    write_tokenized_bundle(folder / "runs" / "quickstart" / "bundles", 40)
    shutil.copytree(folder / "runs" / "quickstart" / "bundles", folder / "runs" / "default" / "bundles")
    (folder / "ads.jsonl").write_text('{"item_id": "from-file", "title": "old wine"}\n')
    return folder


def _runs(command: str, expected: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0 or (command in MAY_FIND_FAULTS and result.exit_code == 1), (result, result.output)
    assert expected in result.output


@pytest.mark.parametrize("command", RUN)
def test_a_documented_command_does_what_the_page_says(
    command: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command in LINES, "no page has it any more"
    _runs(command, RUN[command], repository, monkeypatch)


@pytest.mark.parametrize("command", INLINE)
def test_a_command_inside_a_sentence_runs(command: str, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _runs(command, INLINE[command], repository, monkeypatch)


def _reason(line: str) -> str | None:
    return next((reason for start, reason in NOT_RUN.items() if f"{line} ".startswith(f"{start} ")), None)


def test_every_documented_command_is_run_or_told_why_not() -> None:
    assert sorted(line for line in LINES if line not in RUN and _reason(line) is None) == []
    assert sorted(line for line in RUN if _reason(line) is not None) == []
    kept = {start for start in NOT_RUN for line in LINES if f"{line} ".startswith(f"{start} ")}
    assert set(NOT_RUN) - kept == set(), "no page has them any more"
