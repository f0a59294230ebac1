"""A tracker: a line of JSON a step."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adbeam.errors import UserError
from adbeam.training.config import TrackingConfig


class LinesTracker:
    """Appends to the file `options.lines`; runs on the driver."""

    def __init__(self, config: TrackingConfig, name: str, facts: Mapping[str, Any]) -> None:
        if "lines" not in config.options:
            raise UserError("names no file", field="training.tracking.options.lines", remedy="give a path")
        self._path = Path(config.options["lines"])
        self._write({"run": name, "seed": facts["seed"]})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Numbers of optimiser step `step`."""
        self._write({"step": step, **metrics})

    def close(self, status: str) -> None:
        """The run is over: finished, stopped or failed."""
        self._write({"status": status})

    def _write(self, row: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
