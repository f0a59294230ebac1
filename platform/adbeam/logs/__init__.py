"""From raw ad logs and catalogues to clean events, per-user sequences and splits (Ray Data)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbeam.logs.pipeline import PrepareSettings
    from adbeam.logs.prepared import PreparedLog


def prepare(config: PrepareSettings) -> PreparedLog:
    """Prepare the log that `config.logs` describes into `config.work_dir / "prepared"`, unless it is current.

    Raises UserError naming the file, the field and the remedy when the log or catalogue cannot be used.
    """
    from adbeam.logs.pipeline import run

    return run(config)
