"""The arguments of an application, checked before any replica starts: its args and its user_config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adbeam.beams.config import BeamPolicyConfig
from adbeam.errors import UserError
from adbeam.serving.config import ReplicaOptions, ServingConfig
from adbeam.serving.deploy.policy import read_policy


def validated_options(
    user_config: dict[str, Any] | None, policy: str | dict[str, Any]
) -> tuple[BeamPolicyConfig, Path | None]:
    """The policy (that of the args by default) and the bundle that `user_config` asks for; raises UserError."""
    options = ReplicaOptions.parse(user_config or {}, source="user_config")
    return read_policy(policy if options.policy is None else options.policy), options.bundle


def validated_args(args: dict[str, Any]) -> dict[str, Any]:
    """`args` with defaults and absolute paths, checked before any replica starts; raises UserError."""
    config = ServingConfig.resolve(args)
    if not config.bundle.exists():
        raise UserError("does not exist", field="bundle", value=str(config.bundle), remedy="train and export one first")
    policy = config.policy if isinstance(config.policy, dict) else read_policy(config.policy).model_dump(mode="json")
    return {**config.model_dump(mode="json"), "policy": policy}
