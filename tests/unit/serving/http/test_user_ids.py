"""User ids at the border: which mean nobody."""

from __future__ import annotations

import pytest

from adbeam.records import NOBODY_WORDS, is_nobody


@pytest.mark.parametrize("text", ["", "   ", "NULL", " None ", "nan", "0", "00000000-0000-0000-0000-000000000000"])
def test_words_that_mean_nobody(text: str) -> None:
    assert is_nobody(text)


@pytest.mark.parametrize("text", ["u17", "00", "10", "nullable", "00000000-0000-0000-0000-000000000001"])
def test_ids_that_mean_somebody(text: str) -> None:
    assert not is_nobody(text)


def test_the_words_are_written_as_they_are_compared() -> None:
    assert {word.strip().lower() for word in NOBODY_WORDS} == NOBODY_WORDS
