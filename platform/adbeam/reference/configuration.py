"""docs/configuration.md, written from the typed configuration: every key, its type, default, bounds and meaning."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from adbeam.imports.registry import Registry

BOUNDS = {annotated_types.Ge: "≥", annotated_types.Gt: ">", annotated_types.Le: "≤", annotated_types.Lt: "<"}

HEADER = """\
# Configuration

Written by `adbeam docs build` from the types that check it. An unknown key is refused with the nearest valid name.
`--set section.key=value` overrides one key of a job's YAML; `adbeam config show -c FILE` prints all.
"""


def reference() -> str:
    """The whole page."""
    from adbeam.beams.config import AutoscaleConfig, BeamPolicyConfig
    from adbeam.cluster.config import ClusterConfig
    from adbeam.config import Config
    from adbeam.serving.config import ReplicaOptions, ServingConfig

    parts: list[tuple[str, str, type[BaseModel]]] = [
        ("Jobs", "`jobs/*.yaml`, read by every step.", Config),
        ("Serving", "`args:` of an application in `serving/*.yaml`.", ServingConfig),
        ("Serving, without a restart", "`user_config:` of the deployment in `serving/*.yaml`.", ReplicaOptions),
        ("Beam policies", "`serving/policies/*.yaml`.", BeamPolicyConfig),
        ("Replicas", "`policy_kwargs:` of the autoscaling policy.", AutoscaleConfig),
        ("Kubernetes manifests", "`cluster/settings.yaml`, read by `adbeam cluster render`.", ClusterConfig),
    ]
    text = [HEADER]
    for title, where, section in parts:
        text.append(f"\n## {title}\n\n{where}\n")
        text.extend(_section(section, ""))
    return "\n".join(text) + "\n"


def _section(section: type[BaseModel], place: str) -> Iterator[str]:
    """The table of one section, then those of the sections inside it."""
    inner = [(name, model) for name, field in section.model_fields.items() if (model := _model(field.annotation))]
    plain = {name: field for name, field in section.model_fields.items() if name not in dict(inner)}
    if place:
        yield f"\n### {place}\n\n{_first_paragraph(section)}"
    if place or plain:
        yield ""
    if plain:
        yield "| key | type | default | meaning |\n| --- | --- | --- | --- |"
        for name, field in plain.items():
            key = f"{place}.{name}" if place else name
            yield f"| `{key}` | {_type(field)} | {_default(field)} | {_cell(field.description or '')} |"
    for name, model in inner:
        yield from _section(model, f"{place}.{name}" if place else name)


def _model(annotation: Any) -> type[BaseModel] | None:
    """The section behind `X` or `X | None`."""
    if get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return _model(parts[0]) if len(parts) == 1 else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _type(field: FieldInfo) -> str:
    bounds = [f"{sign} {getattr(item, kind.__name__.lower())}" for item in field.metadata
              for kind, sign in BOUNDS.items() if isinstance(item, kind)]  # fmt: skip
    registry = next((found for item in field.metadata if (found := _registry(item))), None)
    name = _cell(_type_name(field.annotation) if registry is None else _names(registry))
    return f"{name} {', '.join(bounds)}".strip()


def _registry(item: Any) -> Registry | None:
    """The registry whose names a field takes, where `item` of its metadata checks them."""
    home = getattr(getattr(item, "func", None), "__self__", None)
    return home if isinstance(home, Registry) else None


def _names(registry: Registry) -> str:
    return f"{' or '.join(f'`{name}`' for name in registry.names)}, or a part of `{registry.group}`"


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        registry = next((found for item in arguments[1:] if (found := _registry(item))), None)
        return _type_name(arguments[0]) if registry is None else _names(registry)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(part) for part in arguments)
    if annotation is type(None):
        return "null"
    if annotation is Path:
        return "path"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{value.value}`" for value in annotation)
    if origin in (tuple, list):
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type_name(arguments[1])}"
    names: dict[Any, str] = {str: "text", float: "number", int: "whole number", bool: "true or false", Any: "anything"}
    return names.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return "null"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, tuple | list):
        return f"`[{', '.join(str(item) for item in value)}]`"
    return f"`{value}`"


def _first_paragraph(section: type[BaseModel]) -> str:
    return " ".join((section.__doc__ or "").strip().split("\n\n")[0].split())


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
