"""Settings of the export."""

from __future__ import annotations

from pydantic import Field

from adbeam.settings import Section


class ExportConfig(Section):
    """What `adbeam export` refuses to make a bundle of, and how long it looks for prices."""

    max_dearest_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Of the training targets' money, what the dearest 0.1 % may hold (or all above 1,000 times "
        "the median, where those are more), if the dearest is above 100 times the median; 1 allows anything.",
    )
    priced_requests: int = Field(
        5000,
        ge=0,
        description="Validation requests with impressions that the model judges, to price its answers in money of a "
        "thousand impressions (docs/money.md); they are spread over the users. 0 prices by ad alone.",
    )
    precision_requests: int = Field(
        0,
        ge=0,
        description="Validation requests, spread over the users, on which each precision's money is measured, so that "
        "`engine.precision: auto` may choose one (docs/decoding.md). 0 measures none.",
    )
