"""Write every manifest from `cluster/settings.yaml`, or say which files differ from it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import yaml

from adbeam.cluster.config import ClusterConfig
from adbeam.cluster.manifests import ray_cluster, ray_job, ray_service
from adbeam.jobs.steps import STEPS
from adbeam.settings import read_yaml

HEADER = """\
# {what}
# Rendered by `adbeam cluster render` from cluster/settings.yaml{also}: change that, not this.
"""


def render(config: ClusterConfig, serve: dict[str, Any]) -> dict[str, str]:
    """Every rendered file: name -> YAML text."""
    files = {"raycluster.yaml": ("A Ray cluster for many jobs (kubectl apply -f).", ray_cluster(config), "")}
    for step in STEPS.values():
        files[f"rayjob-{step.name.replace('_', '-')}.yaml"] = (step.does, ray_job(config, step), "")
    also = f" and {config.serve_config}"
    files["rayservice.yaml"] = ("The serving cluster with its application.", ray_service(config, serve), also)
    return {
        name: HEADER.format(what=what, also=also) + yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=160)
        for name, (what, value, also) in files.items()
    }


class _Dumper(yaml.SafeDumper):
    """Plain YAML as a person writes it: no anchors, blocks for texts of several lines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def load(settings: Path) -> tuple[ClusterConfig, dict[str, Any]]:
    """The settings and the Serve configuration they name (relative to the folder above that of the settings)."""
    config = ClusterConfig.parse(read_yaml(settings), source=str(settings))
    return config, read_yaml(settings.resolve().parent.parent / config.serve_config)


def write(files: dict[str, str], folder: Path) -> list[Path]:
    """Write what changed; returns the paths written. Each file is whole or as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in stale(files, folder):
        partial = folder / f".{name}.{uuid.uuid4().hex[:8]}.partial"
        partial.write_text(files[name], encoding="utf-8")
        os.replace(partial, folder / name)
        written.append(folder / name)
    return written


def stale(files: dict[str, str], folder: Path) -> list[str]:
    """Names of files that are missing in `folder` or differ there."""
    return [name for name, text in files.items() if not _same(folder / name, text)]


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
