"""Beam widths that a request names, from its fields to its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.serving.gated_engine import FULL, GatedEngine, ask, running

from adbeam.serving.http.problems import validation_problem


async def test_a_cap_narrows_the_search_and_is_not_cached_for_others(tmp_path: Path) -> None:
    async with running(tmp_path, GatedEngine(), cache={"answer_repeats": True}) as service:
        narrow = await ask(service, user_id="a", beam_width_max=8)
        wide = await ask(service, user_id="a")
        again = await ask(service, user_id="a", beam_width_max=8)
        assert narrow and wide and again
        assert narrow["served"]["widths"][-1] == 8
        assert wide["served"]["source"] == "model" and tuple(wide["served"]["widths"]) == FULL
        assert again["served"]["source"] == "cache" and again["served"]["widths"] == narrow["served"]["widths"]


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"beam_width_max": 0}, "beam_width_max", "greater than or equal to 1"),
        ({"beam_width_max": 17}, "beam_width_max", "less than or equal to 16"),
        ({"beam_width_min": 17}, "beam_width_min", "less than or equal to 16"),
        ({"beam_width_min": "9"}, "beam_width_min", "valid integer"),
        ({"beam_width_max": 8, "beam_width_min": 9}, "beam_width_min", "at most beam_width_max, 8: lower it"),
    ],
)
async def test_bounds_out_of_range_are_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], field: str, message: str
) -> None:
    async with running(tmp_path, GatedEngine()) as service:
        with pytest.raises(ValidationError) as refused:
            await ask(service, **fields)
    problem = validation_problem(refused.value)
    assert problem.status == 422
    assert problem.errors[0]["field"] == field and message in problem.errors[0]["message"]
    assert problem.errors[0]["value"] == fields[field]


async def test_both_bounds_may_be_named(tmp_path: Path) -> None:
    async with running(tmp_path, GatedEngine()) as service:
        answer = await ask(service, user_id="a", beam_width_max=16, beam_width_min=16)
        assert answer and answer["served"]["widths"][-1] == 16
