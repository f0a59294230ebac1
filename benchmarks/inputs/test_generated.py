"""However a log is written, the same events and the same account come out, or it is refused by file or setting."""

from __future__ import annotations

import pytest

from benchmarks.inputs.run import judge_seed

SEEDS = 64
PART = 8


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_generated_logs_come_out_as_they_were_written(first):
    faults = [verdict for verdict in map(judge_seed, range(first, first + PART)) if not verdict.right]
    assert not faults, "\n".join(f"seed {fault.seed}: {fault.outcome}: {fault.said}" for fault in faults)
