"""Serve config files, switches, policies, the cache and the autoscaling policy."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from adbeam.errors import UserError
from adbeam.serving.autoscaling import FullWidthPolicy
from adbeam.serving.config import CacheConfig, ServingConfig
from adbeam.serving.deploy.config_file import read_serve_config
from adbeam.serving.deploy.environment import DECISIVE, SWITCHES, missing_switches
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.deploy.ports import refuse_taken
from adbeam.serving.queue.cache import ResultCache

SERVING = Path(__file__).parents[4] / "serving"


@pytest.mark.parametrize("name", ["ads.yaml", "ads-production.yaml", "ads-gpu.yaml"])
def test_the_shipped_applications_are_valid(name: str) -> None:
    values = read_serve_config(SERVING / name)
    application = values["applications"][0]
    config = ServingConfig.resolve(application["args"])
    assert config.bundle.is_absolute() and config.store.path.is_absolute()
    read_policy(config.policy)
    deployment = application["deployments"][0]
    FullWidthPolicy(**deployment["autoscaling_config"]["policy"]["policy_kwargs"])
    assert (config.auth.mode == "none") == (name == "ads.yaml")
    assert (config.engine.device == "cuda") == (deployment["ray_actor_options"].get("num_gpus") == 1)


def test_serve_env_holds_the_switches() -> None:
    lines = (SERVING / "serve.env").read_text(encoding="utf-8").splitlines()
    values = dict(shlex.split(line)[0].split("=", 1) for line in lines if line and not line.startswith("#"))
    assert values == SWITCHES
    assert missing_switches(values) == [] and missing_switches({}) == list(DECISIVE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(aplications=[]), "'aplications'; did you mean 'applications'"),
        (lambda v: v["applications"][0].update(import_pth="x"), "did you mean 'import_path'"),
        (lambda v: v["applications"][0]["deployments"][0].update(num_replica=1), "did you mean 'num_replicas'"),
        (
            lambda v: v["applications"][0]["deployments"][0]["autoscaling_config"].update(min_replicas=5),
            "min_replicas must not exceed",
        ),
        (lambda v: v.update(applications=[]), "names no application"),
        (lambda v: v["applications"][0].update(import_path=3), "import_path"),
    ],
)
def test_a_wrong_serve_config_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    values = yaml.safe_load((SERVING / "ads.yaml").read_text(encoding="utf-8"))
    change(values)
    (tmp_path / "ads.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=words):
        read_serve_config(tmp_path / "ads.yaml")


def test_overrides_go_into_the_arguments() -> None:
    values = read_serve_config(SERVING / "ads.yaml", overrides={"store.path": "x", "bundle": "b"}, port=18123)
    args = values["applications"][0]["args"]
    assert (args["store"]["path"], args["bundle"], values["http_options"]["port"]) == ("x", "b", 18123)
    assert args["store"]["prepared"] == "runs/quickstart/prepared"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"bundel": "x"}, "did you mean 'bundle'"),
        ({"store": {"paht": "x"}}, "did you mean 'path'"),
        ({"deadline": {"min_ms": 50, "max_ms": 20}}, "min_ms must not exceed"),
        ({"auth": {"mode": "password"}}, r"auth\.mode"),
    ],
)
def test_wrong_arguments_are_refused(args: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ServingConfig.resolve(args)


def test_a_policy_is_a_name_a_file_or_a_mapping(tmp_path: Path) -> None:
    assert read_policy("static").policy == "static"
    assert read_policy({"policy": "tabs", "max_batch": 3}).max_batch == 3
    (tmp_path / "own.yaml").write_text("policy: tabs_floor\n")
    assert read_policy("own.yaml", tmp_path).policy == "tabs_floor"
    with pytest.raises(UserError, match="deadline"):
        read_policy("fastest")


def test_the_cache_forgets_by_age_number_and_user() -> None:
    now = [0.0]
    cache = ResultCache(CacheConfig(ttl_seconds=10, max_entries=2), lambda: now[0])
    cache.put("u", "k1", 1)
    cache.put("v", "k2", 2)
    assert cache.get("k1") == 1
    cache.put("w", "k3", 3)
    assert cache.get("k2") is None and cache.get("k1") == 1
    cache.forget_user("u")
    assert cache.get("k1") is None and cache.get("k3") == 3
    now[0] = 11.0
    assert cache.get("k3") is None and len(cache) == 0
    cache.put(None, "k4", 4)
    off = ResultCache(CacheConfig(enabled=False))
    off.put("u", "k", 1)
    assert cache.get("k4") is None and off.get("k") is None


def scaling(demand: dict[str, float] | None, state: dict[str, Any] | None = None, target: int = 1) -> Any:
    return SimpleNamespace(
        aggregated_metrics=None if demand is None else {"demand_full_width": demand},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=8,
        target_num_replicas=target,
        policy_state=state or {},
    )


def test_replicas_follow_the_demand_at_full_width() -> None:
    policy = FullWidthPolicy(target_utilisation=0.5, look_ahead_seconds=0)
    replicas, state = policy(scaling({"a": 1.0, "b": 0.9}, target=2))
    assert replicas == 4
    assert policy(scaling({"a": 50.0}, state))[0] == 8
    assert policy(scaling(None, target=3))[0] == 3
    with pytest.raises(UserError, match="target_utilisation"):
        FullWidthPolicy(target_utilization=0.5)


def test_a_port_in_use_is_named_before_anything_starts() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(UserError, match=r"--port.*end what holds it"):
            refuse_taken(holder.getsockname()[1])
