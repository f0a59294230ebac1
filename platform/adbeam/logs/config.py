"""Settings of the log preparation."""

from __future__ import annotations

from adbeam.settings import Section


class LogsConfig(Section):
    """Where the log is and how its columns map to the Event contract."""
