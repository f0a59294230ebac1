"""The registry of log sources, by the names of `logs.source`."""

from __future__ import annotations

from adbeam.imports.registry import Registry
from adbeam.logs.config import LogsConfig
from adbeam.logs.sources.base import Source
from adbeam.targeting.features import Features

SOURCES = Registry(
    "logs.source",
    {
        "completejourney": "adbeam.logs.sources.completejourney:CompleteJourneySource",
        "sequences": "adbeam.logs.sources.sequences:SequenceFileSource",
        "files": "adbeam.logs.sources.files:FilesSource",
    },
)


def open_source(config: LogsConfig, features_told: Features | None = None) -> Source:
    """The source that `config.source` names; targeting rules of its catalogue are over `features_told`."""
    make = SOURCES.load(config.source)
    source: Source = make(config, features_told) if features_told else make(config)
    return source
