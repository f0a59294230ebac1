"""The report of tokenization as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def print_summary(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what was tokenized, what was set aside, collisions, and the use of each level."""
    console = console or Console()
    catalogue, quality = report["catalogue"], report["quality"]
    console.print(
        f"tokenized {catalogue['kept']:,} of {catalogue['rows']:,} items, {catalogue['quarantined']:,} set aside"
        + "".join(f"; {reason}: {number:,}" for reason, number in catalogue["reasons"].items())
    )
    similarity = "-" if report["pas"] is None else f"{report['pas']:.3f}"
    console.print(
        f"Cpr {quality['cpr']:.3f} items per SID, Col {quality['col']:.2%} of SIDs hold several, "
        f"Util {quality['util']:.3%} of {quality['code_space']:,} codes, PAS {similarity}"
    )
    table = Table("level", "codes", "fitted", "used", "perplexity", "largest cell / mean")
    for number, level in enumerate(quality["levels"]):
        fitted = report["fitted_sizes"][number] if number < len(report["fitted_sizes"]) else "hash"
        cells = (number, level["codes"], fitted, level["used"])
        table.add_row(*map(str, cells), f"{level['perplexity']:.1f}", f"{level['largest_cell_over_mean']:.2f}")
    console.print(table)
