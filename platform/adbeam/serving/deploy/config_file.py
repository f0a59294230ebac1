"""Reading a Serve config file: Serve's own schema, and the checks it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

from adbeam.errors import UserError, nearest_name
from adbeam.settings import read_yaml, set_key


def read_serve_config(
    path: str | Path, *, overrides: Mapping[str, Any] | None = None, port: int | None = None
) -> dict[str, Any]:
    """The mapping in a Serve config file with `overrides` ({"store.path": ...}) put into the first application's args.

    Raises UserError on an unknown key (which Serve would ignore), bounds that contradict, or anything Serve refuses.
    """
    values = read_yaml(path)
    _check_keys(values, ServeDeploySchema, str(path))
    applications = values.get("applications") or []
    if not applications:
        raise UserError(f"{path} names no application", field="applications", remedy="see serving/ads.yaml")
    for application in applications:
        _check_keys(application, ServeApplicationSchema, f"{path}: applications")
        for deployment in application.get("deployments") or []:
            _check_keys(deployment, DeploymentSchema, f"{path}: deployments")
            _check_replicas(deployment, path)
    if applications[0].get("args") is None:
        applications[0]["args"] = {}
    for key, value in (overrides or {}).items():
        set_key(applications[0], f"args.{key}", value, str(path))
    if port is not None:
        values["http_options"] = {"host": "127.0.0.1", **(values.get("http_options") or {}), "port": port}
    try:
        ServeDeploySchema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {first['msg']}", field=place, value=first.get("input")) from None
    return values


def _check_keys(values: Any, schema: type[BaseModel], place: str) -> None:
    if not isinstance(values, dict):
        raise UserError(f"{place} must be a mapping", value=values)
    for key in values:
        if key not in schema.model_fields:
            near = nearest_name(str(key), schema.model_fields)
            raise UserError(f"{place}: unknown key {key!r}", remedy=f"did you mean {near!r}?")


def _check_replicas(deployment: Mapping[str, Any], path: str | Path) -> None:
    scaling = deployment.get("autoscaling_config")
    if not isinstance(scaling, Mapping):
        return
    least, most = scaling.get("min_replicas", 1), scaling.get("max_replicas", 1)
    if least > most:
        raise UserError(
            f"{path}: min_replicas must not exceed max_replicas", field="autoscaling_config", value=dict(scaling)
        )
