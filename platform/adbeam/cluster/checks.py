"""Checks of Serve and launcher YAML before anything is applied.

Ray's own Serve schema lets unknown keys and min_replicas > max_replicas pass, so that a typing error goes unnoticed
until the night it matters; both are refused here.
"""

from __future__ import annotations

import copy
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from adbeam.errors import UserError, nearest_name
from adbeam.settings import parse_yaml, read_yaml

RECOMMENDER = "adbeam.serving.app:build"

_FREE = ("args", "user_config", "ray_actor_options", "runtime_env", "init_kwargs", "policy_kwargs", "logging_config")
"""Keys whose value is a mapping of the user's own."""


def check_file(path: Path) -> str:
    """Check a YAML by what it holds; returns what it was. Raises UserError on anything amiss."""
    values = read_yaml(path)
    if "applications" in values:
        check_serve(values, str(path))
        return "Serve configuration"
    if "cluster_name" in values and "provider" in values:
        check_launcher(values, str(path))
        return "Ray launcher configuration"
    if values.get("kind") == "RayService":
        check_serve(_parse_block(values, path), f"{path}: spec.serveConfigV2")
        return "RayService"
    raise UserError(
        "neither a Serve configuration, a RayService nor a Ray launcher file",
        field=str(path),
        remedy="manifests of other kinds: kubectl apply --dry-run=server -f FILE",
    )


def check_serve(values: dict[str, Any], source: str) -> None:
    """Ray's own validation, then what it lets pass; raises UserError."""
    from ray.serve.schema import ServeDeploySchema

    from adbeam.serving.config import ServingConfig

    try:
        ServeDeploySchema.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{_place(item['loc'])}: {item['msg']}" for item in error.errors())
        raise UserError(f"{source}: {problems}", remedy="see the Serve config schema of Ray") from None
    _refuse_unknown(ServeDeploySchema, values, source, ())
    for application in values["applications"]:
        if application["import_path"] == RECOMMENDER:
            ServingConfig.parse(application.get("args") or {}, source=f"{source}: {application.get('name')}.args")
        for deployment in application.get("deployments") or ():
            _check_scaling(deployment, f"{source}: {application.get('name')}.{deployment.get('name')}")


def check_launcher(values: dict[str, Any], source: str) -> None:
    """Ray's own check of a launcher file; raises UserError."""
    # Private: the public way to have a launcher file checked is `ray up`, which starts nodes.
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(copy.deepcopy(values)))
    except Exception as error:  # Ray raises jsonschema errors, ValueError, KeyError and its own, all with one meaning.
        reason = str(getattr(error, "message", None) or error).splitlines()[0]
        raise UserError(f"{source}: {reason}", remedy="see the cluster YAML reference of Ray") from None


def _check_scaling(deployment: dict[str, Any], source: str) -> None:
    scaling = deployment.get("autoscaling_config")
    if not isinstance(scaling, dict):
        return
    low, high = scaling.get("min_replicas", 1), scaling.get("max_replicas", 1)
    if low > high:
        raise UserError(f"{source}: min_replicas {low} > max_replicas {high}", remedy="swap or raise one of them")
    first = scaling.get("initial_replicas")
    if first is not None and not low <= first <= high:
        raise UserError(f"{source}: initial_replicas {first} is outside {low}..{high}")


def _refuse_unknown(model: type[BaseModel], values: Any, source: str, place: tuple[str, ...]) -> None:
    if not isinstance(values, dict):
        return
    names = {name for key, field in model.model_fields.items() for name in (key, field.alias) if name}
    for key, value in values.items():
        here = (*place, str(key))
        if key not in names:
            near = nearest_name(str(key), sorted(names))
            raise UserError(f"{source}: unknown key {_place(here)!r}", remedy=f"did you mean {near!r}?")
        inner = _inner_model(model.model_fields[key].annotation) if key in model.model_fields else None
        if inner is None or key in _FREE:
            continue
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            _refuse_unknown(inner, item, source, (*here, str(index)) if isinstance(value, list) else here)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside an annotation such as Optional[X], List[X] or Union[dict, X]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list):
        found = [model for part in typing.get_args(annotation) if (model := _inner_model(part))]
        return found[0] if found else None
    return None


def _parse_block(values: dict[str, Any], path: Path) -> dict[str, Any]:
    block = parse_yaml((values.get("spec") or {}).get("serveConfigV2") or "", f"{path}: spec.serveConfigV2")
    if not isinstance(block, dict) or "applications" not in block:
        raise UserError("spec.serveConfigV2 holds no applications", field=str(path))
    return block


def _place(parts: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in parts)
