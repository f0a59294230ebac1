"""The quality gate: tokens below it are not published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adbeam.errors import UserError
from adbeam.tokens.config import GatesConfig


def check(report: Mapping[str, Any], gates: GatesConfig) -> None:
    """Raise UserError naming every gate that `report` fails, the figure, the bound, and what usually helps."""
    failed = failures(report, gates)
    if failed:
        raise UserError("tokens are not published: " + "; ".join(failed), field="tokens.gates")


def failures(report: Mapping[str, Any], gates: GatesConfig) -> list[str]:
    """One sentence for each failed gate."""
    items, quality = report["catalogue"], report["quality"]
    share = items["quarantined"] / max(items["rows"], 1)
    found = [
        _above("max_quarantined", share, gates.max_quarantined, "see quarantine in the report: give the items text"),
        _above("max_collision", quality["col"], gates.max_collision, "larger codebooks or more business_fields"),
        _above(
            "max_items_per_sid", quality["cpr"], gates.max_items_per_sid, "larger codebooks or more business_fields"
        ),
    ]
    for number, level in enumerate(quality["levels"][: len(report["fitted_sizes"])]):
        fitted = report["fitted_sizes"][number]
        if gates.min_level_utilisation is not None and level["used"] < gates.min_level_utilisation * fitted:
            found.append(
                f"min_level_utilisation: level {number} uses {level['used']} of {fitted} codes, "
                f"the gate is {gates.min_level_utilisation:g} (smaller codebooks or richer embeddings)"
            )
        balance = level["largest_cell_over_mean"] * fitted / level["codes"]
        name = f"max_largest_cell_over_mean: level {number}"
        found.append(
            _above(
                name,
                balance,
                gates.max_largest_cell_over_mean,
                "richer text_fields, behaviour_dimensions above 0, or fewer codes",
            )
        )
    return [sentence for sentence in found if sentence]


def _above(name: str, value: float, bound: float | None, remedy: str) -> str | None:
    if bound is None or value <= bound:
        return None
    return f"{name}: {value:.4g}, the gate is {bound:g} ({remedy})"
