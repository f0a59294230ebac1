"""Which log source: the one that `logs.source` names in the registry."""

from __future__ import annotations

from adbeam.imports.extension_points import SOURCES
from adbeam.logs.config import LogsConfig
from adbeam.logs.sources.base import Source
from adbeam.targeting.features import Features


def open_source(config: LogsConfig, features_told: Features | None = None) -> Source:
    """The source that `config.source` names; targeting rules of its catalogue are over `features_told`."""
    make = SOURCES.load(config.source)
    source: Source = make(config, features_told) if features_told else make(config)
    return source
