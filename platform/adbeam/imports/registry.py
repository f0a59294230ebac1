"""Registries: the names that a setting may take and the classes behind them, each imported only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from adbeam.errors import UserError, nearest_name


class Registry:
    """Names of one kind of part -> "module:Class"."""

    def __init__(self, field: str, places: Mapping[str, str]) -> None:
        """`field` is the setting that chooses, for the refusal."""
        self.field, self._places = field, dict(places)

    @property
    def names(self) -> tuple[str, ...]:
        """Every known name."""
        return tuple(self._places)

    def load(self, name: str) -> Any:
        """The class called `name`; raises UserError with the nearest known name when there is none."""
        if name not in self._places:
            near = nearest_name(name, self._places)
            raise UserError(
                "there is none of that name", field=self.field, value=name, remedy=f"did you mean {near!r}?"
            )
        module, _, attribute = self._places[name].partition(":")
        return getattr(import_module(module), attribute)
