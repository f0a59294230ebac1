"""The generator draws the same log for the same seed, draws all kinds, and its judge sees what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adbeam.errors import UserError
from benchmarks.inputs import judge as judging
from benchmarks.inputs.damage import DAMAGES
from benchmarks.inputs.judge import Verdict, judge, write_log
from benchmarks.inputs.recipe import FORMATS, draw_recipe
from benchmarks.inputs.run import figures


def _whole(seed: int = 3) -> Any:
    return draw_recipe(seed)


def test_a_seed_is_one_log(tmp_path: Path) -> None:
    recipe = draw_recipe(5, tuple(DAMAGES))
    assert recipe == draw_recipe(5, tuple(DAMAGES))
    found = []
    for name in ("one", "two"):
        write_log(recipe, tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        found.append([(path.relative_to(tmp_path / name), path.read_bytes()) for path in files])
    assert found[0] == found[1]


def test_seeds_reach_every_kind() -> None:
    recipes = [draw_recipe(seed, tuple(DAMAGES)) for seed in range(400)]
    assert {recipe.events.format for recipe in recipes} == set(FORMATS)
    assert {recipe.damage for recipe in recipes} == {None, *DAMAGES}
    layouts = {"file", "days", "hive", "mixed", "formats", "scenes", "actions"}
    assert {recipe.events.layout for recipe in recipes} == layouts


def test_every_damage_can_be_done(tmp_path: Path) -> None:
    done: set[str] = set()
    for seed in range(400):
        recipe = draw_recipe(seed, tuple(DAMAGES))
        if recipe.damage is None or recipe.damage in done:
            continue
        written = write_log(recipe, tmp_path / str(seed))
        if written.damaged:
            done.add(recipe.damage)
    assert done == set(DAMAGES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda written: written.events[0].update(price=0.25, action="conversion"), "price"),
        (lambda written: written.events.pop(0), "rows_in"),
        (lambda written: written.items[0].update(title="another"), "title"),
    ],
)
def test_what_differs_is_called_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, said: str) -> None:
    written = write_log(_whole(), tmp_path)
    change(written)
    monkeypatch.setattr(judging, "write_log", lambda recipe, root: written)
    verdict = judge(_whole(), tmp_path)
    assert verdict.outcome == "silent" and said in verdict.said


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(UserError("bad", field="logs.files"), "refused wrongly"), (KeyError("price"), "trace")],
)
def test_refusals_and_traces_of_a_whole_log_are_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, outcome: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(judging, "run", fail)
    assert judge(_whole(), tmp_path).outcome == outcome


def test_a_whole_log_comes_out_the_same_and_ends_are_counted(tmp_path: Path) -> None:
    verdict = judge(replace(_whole(), damage=None), tmp_path)
    assert verdict == Verdict(3, "same")
    found = figures([verdict, Verdict(4, "silent"), Verdict(5, "wordless"), Verdict(6, "refused")])
    assert (found["generated_logs"], found["generated_same"], found["generated_silent"]) == (4, 1, 1)
    assert (found["generated_refused"], found["generated_refused_wrongly"], found["generated_traces"]) == (1, 1, 0)
