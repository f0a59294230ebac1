"""Where training ends and validation and test begin."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from adbeam.logs.settings.types import Moment
from adbeam.settings import Section


class SplitConfig(Section):
    """Where training ends. By time: validation and test are strictly later than training."""

    by: Literal["time", "leave_last_out"] = "time"
    validation_from: Moment | None = Field(default=None, description="First moment of validation: ISO 8601 or ms.")
    test_from: Moment | None = Field(default=None, description="First moment of test: ISO 8601 or ms.")

    @model_validator(mode="after")
    def _boundaries_fit(self) -> Self:
        given = (self.validation_from, self.test_from)
        if self.by == "leave_last_out":
            if given != (None, None):
                raise ValueError("leave_last_out takes no validation_from or test_from")
        elif self.validation_from is None or self.test_from is None:
            raise ValueError("a split by time needs validation_from and test_from")
        elif self.validation_from >= self.test_from:
            raise ValueError("validation_from must be earlier than test_from")
        return self


COMPLETEJOURNEY_SPLIT = SplitConfig.model_validate(
    {"by": "time", "validation_from": "2017-10-02T04:00:00+00:00", "test_from": "2017-10-16T04:00:00+00:00"}
)
"""Weeks turn on Mondays at 04:00 UTC: training to week 40, validation weeks 41 and 42, test from week 43."""
