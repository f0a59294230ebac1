"""What starting an endpoint says when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
import yaml
from tests.support.bundles import write_random_bundle

from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.quickstart import _serving_overrides
from adbeam.serving.deploy.local import _reason, of_work_dir, start

SERVING = Path(__file__).parents[4] / "serving"


def test_a_deployment_that_fails_is_explained_by_what_the_replica_said() -> None:
    quoted = (
        "failed 3 times\n  File ...\nadbeam.errors.UserError: bundle: model.safetensors was changed\n\nUserError: again"
    )
    assert _reason("Failed to update", "fine", quoted) == "again"
    assert _reason(" Failed to update ", "OOM") == "Failed to update"


def test_a_bad_user_config_is_refused_before_anything_starts(tmp_path: Path) -> None:
    write_random_bundle(tmp_path / "bundles", 20)
    values = yaml.safe_load((SERVING / "ads.yaml").read_text(encoding="utf-8"))
    policy = {"policy": "deadline", "utilisation_bound": 0.5, "widen_utilisation": 0.9}
    values["applications"][0]["deployments"][0]["user_config"] = {"policy": policy}
    (tmp_path / "ads.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="the rung oscillates"):
        start(tmp_path / "ads.yaml", {"bundle": str(tmp_path / "bundles")})
    assert not ray.is_initialized()


def test_the_quickstart_serves_the_work_dir_with_every_log_and_no_cache(tmp_path: Path) -> None:
    overrides = _serving_overrides(Config.parse({"work_dir": tmp_path}))
    assert overrides == {**of_work_dir(tmp_path), "cache.enabled": False}
    assert overrides["request_log.folder"] == str(tmp_path / "serving" / "requests")
