"""Settings of the decoding engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adbeam.settings import Section

OrderBy = Literal["log_probability", "expected_ecpm", "expected_value"]


class DecodingConfig(Section):
    """Full-width beam search."""

    widths: tuple[int, ...] = Field((32, 64, 128), description="Beams kept after each SID level.")
    order_by: OrderBy = Field(
        "expected_value", description="How the generated ads are ordered; expected_value = probability x expected eCPM."
    )
