"""Serve and launcher YAML: what is refused, and how clearly."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from adbeam.cluster.checks import check_file, check_launcher, check_serve
from adbeam.errors import UserError

ROOT = Path(__file__).parents[3]
SERVE: dict[str, Any] = {
    "proxy_location": "EveryNode",
    "http_options": {"host": "127.0.0.1"},
    "applications": [
        {
            "name": "ads",
            "import_path": "adbeam.serving.app:build",
            "args": {"auth": {"mode": "bearer"}},
            "deployments": [
                {
                    "name": "Recommender",
                    "autoscaling_config": {"min_replicas": 1, "max_replicas": 4},
                    "user_config": {"own": 1},
                }
            ],
        }
    ],
}


def _with(change: Any) -> dict[str, Any]:
    values = copy.deepcopy(SERVE)
    change(values, values["applications"][0], values["applications"][0]["deployments"][0])
    return values


def test_a_good_serve_file_passes() -> None:
    check_serve(SERVE, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, a, d: v.update(proxy_locations="x"), "proxy_locations.*did you mean 'proxy_location'"),
        (lambda v, a, d: v["http_options"].update(hosts="x"), r"http_options.hosts.*'host'"),
        (lambda v, a, d: a.update(deploymentz=[]), r"applications.0.deploymentz.*'deployments'"),
        (lambda v, a, d: d.update(max_ongoing_request=1), r"deployments.0.max_ongoing_request.*'max_ongoing_requests'"),
        (
            lambda v, a, d: d["autoscaling_config"].update(min_replica=1),
            r"autoscaling_config.min_replica.*'min_replicas'",
        ),
        (lambda v, a, d: d["autoscaling_config"].update(min_replicas=5), "min_replicas 5 > max_replicas 4"),
        (lambda v, a, d: d["autoscaling_config"].update(initial_replicas=9), "initial_replicas 9 is outside 1..4"),
        (lambda v, a, d: a.update(import_path="nonsense"), "import_path"),
        (lambda v, a, d: a["args"].update(polisy="tabs"), r"ads.args.*'polisy'.*'policy'"),
    ],
)
def test_a_bad_serve_file_is_refused_by_name(change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_serve(_with(change), "ads.yaml")


@pytest.mark.parametrize("name", ["launcher.yaml", "launcher-onprem.yaml"])
def test_launcher_files_pass_rays_own_check_with_token_authentication(name: str) -> None:
    path = ROOT / "cluster" / name
    assert check_file(path) == "Ray launcher configuration"
    values = yaml.safe_load(path.read_text())
    for role in ("head", "worker"):
        assert any("RAY_AUTH_MODE=token" in command for command in values[f"{role}_start_ray_commands"])
    assert "~/.ray/auth_token" in values["file_mounts"].values()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_worker": 3}, "max_worker"),
        ({"head_node_type": "nope"}, "head_node_type"),
    ],
)
def test_a_bad_launcher_file_is_refused(change: dict[str, Any], message: str) -> None:
    values = yaml.safe_load((ROOT / "cluster" / "launcher.yaml").read_text())
    with pytest.raises(UserError, match=message):
        check_launcher({**values, **change}, "launcher.yaml")


def test_serve_files_of_this_repository_pass() -> None:
    files = [path for path in (ROOT / "serving").glob("*.yaml") if "applications" in yaml.safe_load(path.read_text())]
    assert files
    for path in files:
        assert check_file(path) == "Serve configuration"


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("kind: Deployment\n")
    with pytest.raises(UserError, match="neither a Serve configuration"):
        check_file(path)
