"""Publishing to Grafana: only what differs, nothing half-applied, and clear words when Grafana refuses."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator

import pytest
from tests.support.grafana_stand_in import TOKEN, Grafana, running
from typer.testing import CliRunner

from adbeam.cli.dashboards import dashboards_app
from adbeam.dashboards.build import DASHBOARDS
from adbeam.dashboards.publish import Change, apply, connect, plan
from adbeam.errors import UserError

PAGES = [page.json() for page in DASHBOARDS]
PROMETHEUS = "http://prometheus:9090"


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    with running() as stand_in:
        yield stand_in


def _plan(grafana: Grafana) -> list[Change]:
    return plan(connect(grafana.url, TOKEN), PAGES, PROMETHEUS)


def _push(grafana: Grafana) -> list[Change]:
    changes = _plan(grafana)
    apply(connect(grafana.url, TOKEN), changes)
    return changes


def test_first_push_makes_everything_and_the_second_nothing(grafana: Grafana) -> None:
    assert [(change.kind, change.action) for change in _push(grafana)] == [
        ("folder", "create"),
        ("datasource", "create"),
        *[("dashboard", "create")] * len(PAGES),
    ]
    assert set(grafana.dashboards) == {page["uid"] for page in PAGES}
    assert all(entry["meta"]["folderUid"] == "adbeam" for entry in grafana.dashboards.values())
    before = len(grafana.writes)
    assert _push(grafana) == []
    assert len(grafana.writes) == before


def test_only_what_differs_is_sent_with_a_readable_difference(grafana: Grafana) -> None:
    _push(grafana)
    grafana.dashboards["adbeam-serving"]["dashboard"]["panels"][1]["title"] = "Renamed by hand"
    changes = _push(grafana)
    assert [change.name for change in changes] == ["adbeam serving"]
    assert '-      "title": "Renamed by hand"' in changes[0].diff
    assert grafana.dashboards["adbeam-serving"]["dashboard"]["version"] == 2


def test_another_prometheus_address_updates_the_data_source_in_place(grafana: Grafana) -> None:
    _push(grafana)
    client = connect(grafana.url, TOKEN)
    apply(client, plan(client, PAGES, "http://other:9090"))
    entry = grafana.datasources["adbeam-prometheus"]
    assert (entry["id"], entry["uid"], entry["url"]) == (1, "u1", "http://other:9090")


def test_without_an_address_no_data_source_is_touched(grafana: Grafana) -> None:
    client = connect(grafana.url, TOKEN)
    apply(client, plan(client, PAGES, None))
    assert grafana.datasources == {}


def test_a_dashboard_saved_meanwhile_is_not_overwritten(grafana: Grafana) -> None:
    _push(grafana)
    stored = grafana.dashboards["adbeam-serving"]["dashboard"]
    stored["panels"][1]["title"] = "Renamed by hand"
    changes = _plan(grafana)
    grafana.dashboards["adbeam-serving"]["dashboard"] = {**copy.deepcopy(stored), "version": 7, "title": "Mine"}
    with pytest.raises(UserError, match=r"412.*adbeam serving.*done before it: nothing.*push again"):
        apply(connect(grafana.url, TOKEN), changes)
    assert grafana.dashboards["adbeam-serving"]["dashboard"]["title"] == "Mine"


@pytest.mark.parametrize(("status", "words"), [(401, "GRAFANA_TOKEN"), (403, "role Editor"), (500, "Grafana's log")])
def test_a_refusal_while_planning_changes_nothing(grafana: Grafana, status: int, words: str) -> None:
    grafana.fail["GET", f"/api/dashboards/uid/{PAGES[-1]['uid']}"] = status
    with pytest.raises(UserError, match=f"{status}.*nothing was changed.*{words}"):
        _plan(grafana)
    assert grafana.writes == []


def test_a_failure_while_applying_says_what_was_done(grafana: Grafana) -> None:
    grafana.fail["POST", "/api/datasources"] = 500
    with pytest.raises(UserError, match=r"500 to: create datasource.*done before it: folder adbeam"):
        _push(grafana)
    grafana.fail.clear()
    assert next(change.kind for change in _push(grafana)) == "datasource"


def test_a_wrong_token_is_named(grafana: Grafana) -> None:
    with pytest.raises(UserError, match=r"401.*GRAFANA_TOKEN"):
        plan(connect(grafana.url, "wrong"), PAGES, None)


def test_an_unreachable_grafana_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(UserError, match="cannot reach Grafana"):
        plan(connect(f"http://127.0.0.1:{port}", TOKEN), PAGES, None)


@pytest.mark.parametrize(("url", "token", "field"), [("grafana", TOKEN, "--url"), ("http://g", "", "--token")])
def test_a_bad_address_or_missing_token_is_named(url: str, token: str, field: str) -> None:
    with pytest.raises(UserError, match=field):
        connect(url, token)


def test_a_dry_run_changes_nothing(grafana: Grafana) -> None:
    result = CliRunner().invoke(
        dashboards_app, ["push", "--url", grafana.url, "--token", TOKEN, "--dry-run", "--diff"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "create dashboard adbeam serving" in result.output
    assert grafana.writes == []
