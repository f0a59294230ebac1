"""Whether a log comes out the same however it was written, or is refused in words.

    python -m benchmarks.inputs [--logs N] [--first SEED]

One log with its catalogue is written `--logs` times: CSV in its dialects and encodings, JSON lines and arrays with
fields inside objects, Parquet of many types; packed, in folders, with files that differ from each other. For two in
five a damage is drawn, and two thirds of these can be done. Each goes through `prepare` in this process, with the
settings that a user has to give. `generated_same` came out event by event, item by item and count by count as they
were written, `generated_refused` were damaged and are refused by file or setting. All others are faults:
`generated_silent` differ in silence, `generated_traces` end in a trace, `generated_refused_wrongly` are whole, or
their refusal names nothing; their seeds stand in the file.

`cases_right` and `cases_all`: the tests of reading, ids and times.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.inputs.damage import DAMAGES
from benchmarks.inputs.judge import Verdict, judge
from benchmarks.inputs.recipe import Recipe, draw_recipe
from benchmarks.rig.cases import count_cases
from benchmarks.rig.report import report

CASES = ("tests/unit/logs", "tests/unit/identity")


def main() -> None:
    """Write inputs.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    given = parser.parse_args()
    verdicts = [(recipe, verdict) for recipe, verdict in map(_judged, range(given.first, given.first + given.logs))]
    right, of_all = count_cases(CASES)
    report("inputs", figures([verdict for _, verdict in verdicts]) | {"cases_right": right, "cases_all": of_all},
           _tables(verdicts))  # fmt: skip


def judge_seed(seed: int) -> Verdict:
    """What becomes of the log of that seed, in a folder of its own that is removed."""
    return _judged(seed)[1]


def figures(verdicts: list[Verdict]) -> dict[str, int]:
    """How many logs came to each end."""
    ends = Counter(verdict.outcome for verdict in verdicts)
    return {
        "generated_logs": len(verdicts),
        "generated_same": ends["same"],
        "generated_refused": ends["refused"],
        "generated_silent": ends["silent"],
        "generated_traces": ends["trace"],
        "generated_refused_wrongly": ends["refused wrongly"] + ends["wordless"],
    }


def _judged(seed: int) -> tuple[Recipe, Verdict]:
    recipe = draw_recipe(seed, tuple(DAMAGES))
    folder = Path(tempfile.mkdtemp(prefix="generated-log-"))
    try:
        verdict = judge(recipe, folder)
    finally:
        shutil.rmtree(folder)
    if not verdict.right:
        print(f"seed {seed}: {verdict.outcome}: {verdict.said}", file=sys.stderr)
    return recipe, verdict


def _tables(verdicts: list[tuple[Recipe, Verdict]]) -> dict[str, Any]:
    formats = Counter(recipe.events.format for recipe, _ in verdicts)
    damage = Counter((recipe.damage, verdict.outcome) for recipe, verdict in verdicts if recipe.damage)
    return {
        "formats": dict(sorted(formats.items())),
        "damaged": {f"{name}: {outcome}": count for (name, outcome), count in sorted(damage.items())},
        "faults": {verdict.seed: verdict.outcome for _, verdict in verdicts if not verdict.right},
    }
