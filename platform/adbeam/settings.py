"""The base of every configuration section: typed, frozen, and strict about keys.

An unknown key is refused with the nearest valid name, so a typing error in YAML never goes unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from adbeam.errors import UserError, nearest_name

RULE = "Value error, "
"""What pydantic writes before the words of our own validators."""


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How a URL begins; one letter alone is a drive. A Path has lost the second slash."""


def local_path(value: str) -> str:
    """`value`; raises ValueError for a URL (s3://, hdfs://, file:///): it would become a folder of that name here."""
    if _URL.match(value):
        raise ValueError(
            "is a URL, and only paths of this machine's file system are read and written: mount the storage (a volume, "
            "s3fs, gcsfuse) and give the path under its mount point, or copy the files"
        )
    return value


LocalPath = Annotated[str, AfterValidator(local_path)]
"""Text that is a path or a glob. Fields of type Path have the same rule in every Section."""


def described_as_before(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """`values` of a section without those of `names` that are empty: a section that leaves out a setting that came
    later is described, and its folders are told apart, as before there was that setting."""
    return {name: value for name, value in values.items() if name not in names or value}


class Section(BaseModel):
    """A frozen group of settings. Keys carry their unit (`_ms`, `_seconds`, `_bytes`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _paths_are_local(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str | Path) and info.field_name in _path_fields(cls):
            local_path(str(value))
        return value

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "configuration") -> Self:
        """Validate `values`; raises UserError naming the field, the value and the remedy."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UserError(_explain(cls, error, source)) from None


class Extensible(Section):
    """A section that chooses a part by name; other packages may bring parts (docs/extending.md)."""

    options: dict[str, Any] = Field(default={}, description="Settings of a part from another package; it checks them.")

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return described_as_before(plain(self), "options")


SHIPPED = Path(__file__).with_name("shipped")
"""`jobs/`, `serving/` and `dashboards/` of the repository as an installed package carries them (setup.py)."""


def shipped(path: str | Path) -> Path:
    """`path`; where there is no such file, the one that the package carries under that relative path, if it does."""
    path = Path(path)
    carried = SHIPPED / path  # an absolute path stays itself
    return carried if not path.is_file() and carried.is_file() else path


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, which may be one that the package carries; raises UserError when it is missing,
    malformed, or not a mapping."""
    path = shipped(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", remedy="check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    values = parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold a mapping of settings", value=type(values).__name__)
    return values


def set_key(values: dict[str, Any], dotted: str, value: Any, source: str) -> None:
    """Put `value` into `values` at a dotted key ("training.max_steps"), making the sections on the way.

    Raises UserError where something on the way is a value and no section.
    """
    *places, name = dotted.split(".")
    for depth, place in enumerate(places, start=1):
        if values.get(place) is None:  # also a section that YAML names and leaves empty
            values[place] = {}
        inner = values[place]
        if not isinstance(inner, dict):
            here = ".".join(places[:depth])
            raise UserError(f"is no section, so {dotted} cannot be set", field=f"{source}: {here}", value=inner,
                            remedy=f"set {here} itself, or name a key of a section")  # fmt: skip
        values = inner
    values[name] = value


def parse_yaml(text: str, source: str) -> Any:
    """What `text` says; raises UserError when it is malformed or names a key twice in one mapping."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{source} is not valid YAML: {error}") from None


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses what YAML forbids and PyYAML overlooks: the same key twice.

    Plain keys stay the words that were written: on, yes, null, 007 and 1.50 name something and are no values.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        seen: set[str] = set()
        for key in keys:
            if key.value in seen:
                problem = f"the key {key.value!r} stands twice; keep one"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.style is None:
                key.tag = self.DEFAULT_SCALAR_TAG
        return super().construct_mapping(node, deep)


@cache
def _path_fields(section: type[BaseModel]) -> frozenset[str]:
    """The names of the fields that are a Path, or a Path or null."""
    fields = section.model_fields.items()
    return frozenset(name for name, field in fields if Path in (field.annotation, *get_args(field.annotation)))


def _explain(section: type[BaseModel], error: ValidationError, source: str) -> str:
    return "; ".join(_explain_one(section, item, source) for item in error.errors())


def _explain_one(section: type[BaseModel], item: Any, source: str) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "value_error" and isinstance(item["input"], Mapping):
        return _explain_rule(item, f"{source}: {place}" if place else source)
    if item["type"] != "extra_forbidden":
        return f"{source}: {place}: {item['msg'].removeprefix(RULE)}; got {item.get('input')!r}"
    names = _field_names(section, item["loc"][:-1])
    near = nearest_name(str(item["loc"][-1]), names)
    hint = f"did you mean {near!r}?" if near else "remove it"
    return f"{source}: unknown key {place!r}; {hint}"


def _explain_rule(item: Any, where: str) -> str:
    """A rule over several settings of a section: of what was given, those that it names."""
    rule, words = item["msg"].removeprefix(RULE), set(re.findall(r"\w+", item["msg"]))
    given = [f"{name} {value!r}" for name, value in item["input"].items() if name in words]
    return f"{where}: {rule}" + (f"; got {', '.join(given)}" if given else "")


def _field_names(section: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    """The valid keys at `place` inside `section`."""
    for part in place:
        field = section.model_fields.get(str(part))
        inner = field.annotation if field else None
        # of a mapping or list of sections, the next part of the place is a key or a number, which no section has
        held = (each for each in (inner, *get_args(inner)) if isinstance(each, type) and issubclass(each, BaseModel))
        section = next(held, section)
    return list(section.model_fields)
