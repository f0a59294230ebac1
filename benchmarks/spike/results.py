"""Results of the spike benchmark, kept part by part."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from benchmarks.rig.report import command, commit, write
from benchmarks.spike.endpoint import DEADLINE_MS


class Results:
    """What was measured so far, by part; written after every part, so that a run that is cut loses one at most."""

    def __init__(self, earlier: Path | None) -> None:
        """`earlier` is a result of other parts, kept beside these."""
        kept = {} if earlier is None else json.loads(earlier.read_text(encoding="utf-8"))
        self.figures: dict[str, float] = kept.get("figures", {})
        self.tables: dict[str, Any] = kept.get("tables", {})
        self.parts: dict[str, Any] = kept.get("parts", {})

    def take(self, part: str, figures: dict[str, float], capacity: float | None = None) -> None:
        """Add the figures of a part, measured at a full-width capacity."""
        self.figures |= figures
        today = datetime.date.today().isoformat()
        self.parts[part] = {"date": today, "commit": commit(), "command": command("spike"), "capacity_rps": capacity}
        self.keep()

    def keep(self) -> None:
        """Write what there is."""
        write("spike", self.figures, self.extra())

    def extra(self) -> dict[str, Any]:
        """What goes beside the figures."""
        return {
            "deadline_ms": DEADLINE_MS,
            "parts": self.parts,
            "tables": self.tables,
            "autoscale_decode": "emulated",
            "sim": "simulated",
        }
