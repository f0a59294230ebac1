"""Registries: the names that a setting may take and the parts behind them, each imported only when asked for.

Another package offers parts of its own by entry points of the registry's group (docs/extending.md). Of these only the
one that a setting names is loaded, and they are looked for only where a name is none of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from adbeam.errors import UserError, nearest_name


class Registry:
    """Names of one kind of part -> "module:Class"."""

    def __init__(self, field: str, places: Mapping[str, str], group: str | None = None) -> None:
        """`field` is the setting that chooses, for the refusal; `group` that of entry points, if there may be any."""
        self.field, self._places, self.group = field, dict(places), group
        self._loaded: dict[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of our own parts."""
        return tuple(self._places)

    def check(self, name: str) -> str:
        """`name` itself, and nothing is loaded; raises ValueError with the nearest known name when there is none."""
        if name not in self._places and name not in (outside := self._outside()):
            raise ValueError(f"there is none of that name; {self._remedy(name, outside)}")
        return name

    def load(self, name: str) -> Any:
        """The part called `name`; raises UserError when there is none, with the nearest known name, or it is broken."""
        if name not in self._loaded:
            self._loaded[name] = self._ours(name) if name in self._places else self._theirs(name)
        return self._loaded[name]

    def _ours(self, name: str) -> Any:
        module, _, attribute = self._places[name].partition(":")
        part: Any = import_module(module)
        for each in attribute.split("."):
            part = getattr(part, each)
        return part

    def _theirs(self, name: str) -> Any:
        outside = self._outside()
        if name not in outside:
            raise UserError(
                "there is none of that name", field=self.field, value=name, remedy=self._remedy(name, outside)
            )
        point = outside[name]
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            package = point.dist.name if point.dist is not None else point.value
            raise UserError(f"{package} offers it as {point.value}, which cannot be loaded: {error}", field=self.field,
                            value=name, remedy=f"install {package} and what it needs again") from None  # fmt: skip

    def _outside(self) -> dict[str, EntryPoint]:
        """What installed packages offer, by name; raises UserError where two offer the same name."""
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group) if self.group is not None else ():
            before = found.setdefault(point.name, point)
            if before.value != point.value:
                raise UserError(f"two packages offer it, as {before.value} and as {point.value}", field=self.field,
                                value=point.name, remedy="uninstall one of them")  # fmt: skip
        return found

    def _remedy(self, name: str, outside: Mapping[str, EntryPoint]) -> str:
        known = [*self._places, *outside]
        return f"did you mean {nearest_name(name, known)!r}? There are {', '.join(known)}"
