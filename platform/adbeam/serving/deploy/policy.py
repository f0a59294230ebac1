"""The beam policy of an application: a policy's name, a YAML file, or the mapping itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adbeam.beams.config import BeamPolicyConfig
from adbeam.errors import UserError
from adbeam.imports.extension_points import POLICIES
from adbeam.settings import read_yaml, shipped


def read_policy(policy: str | dict[str, Any], base: Path | None = None) -> BeamPolicyConfig:
    """The policy in force; a file is looked for below `base` (the current folder). Raises UserError."""
    if isinstance(policy, dict):
        return BeamPolicyConfig.parse(policy, source="policy")
    if policy in POLICIES.names:
        return BeamPolicyConfig.named(policy)
    path = (base or Path.cwd()) / policy
    if not path.is_file():
        path = shipped(policy)
    if not path.is_file():
        names = ", ".join(POLICIES.names)
        raise UserError("names neither a policy nor a file", field="policy", value=policy, remedy=f"one of {names}")
    return BeamPolicyConfig.parse(read_yaml(path), source=str(path))
