"""Export: trained weights, catalogue, tokens and the measured ladder become a bundle for serving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbeam.export.export_bundle import ExportSettings


def export(config: ExportSettings) -> Path:
    """Turn `work_dir/training` into a bundle under `work_dir/bundles` and return its folder."""
    from adbeam.export.export_bundle import export as run

    return run(config)
