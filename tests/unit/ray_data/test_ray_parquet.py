"""How Parquet is read by Ray Data; the reading itself runs in tests/integration."""

from __future__ import annotations

import os
from typing import Any

import pytest
import ray.data

from adbeam.ray_data.parquet import read_parquet

FOOTERS, PIECES = "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "RAY_DATA_PARQUET_BIN_PACKING_BYTES"


def test_what_ray_is_told_ends_with_the_call_and_the_user_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(paths: str, **reading: Any) -> tuple[str | None, str | None]:
        return os.environ.get(FOOTERS), os.environ.get(PIECES)

    monkeypatch.setattr(ray.data, "read_parquet", seen)
    monkeypatch.delenv(FOOTERS, raising=False)
    monkeypatch.delenv(PIECES, raising=False)
    assert read_parquet("somewhere") == ("1", None)
    assert read_parquet("somewhere", piece_bytes=1 << 20) == ("1", str(1 << 20))
    assert FOOTERS not in os.environ and PIECES not in os.environ
    monkeypatch.setenv(FOOTERS, "7")
    assert read_parquet("somewhere") == ("7", None)
    assert os.environ[FOOTERS] == "7"
