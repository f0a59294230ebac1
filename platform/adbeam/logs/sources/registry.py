"""The registry of log sources, by the names of `logs.source`."""

from __future__ import annotations

from adbeam.imports.registry import Registry
from adbeam.logs.config import LogsConfig
from adbeam.logs.sources.base import Source

SOURCES = Registry(
    "logs.source",
    {
        "completejourney": "adbeam.logs.sources.completejourney:CompleteJourneySource",
        "sequences": "adbeam.logs.sources.sequences:SequenceFileSource",
        "files": "adbeam.logs.sources.files:FilesSource",
    },
)


def open_source(config: LogsConfig) -> Source:
    """The source that `config.source` names."""
    source: Source = SOURCES.load(config.source)(config)
    return source
