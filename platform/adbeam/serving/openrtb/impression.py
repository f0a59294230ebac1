"""An impression of a bid request, as far as it is read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

NAME_LENGTH, TAG_LENGTH, CATEGORY_LENGTH, CURRENCY_LENGTH = 128, 256, 256, 3
FLOOR_MAX = 1e9

Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_LENGTH)]
Category = Annotated[str, StringConstraints(min_length=1, max_length=CATEGORY_LENGTH)]
CurrencyWord = Annotated[str, StringConstraints(min_length=CURRENCY_LENGTH, max_length=CURRENCY_LENGTH)]


class Tolerant(BaseModel):
    """Fields that are not read are let pass."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Impression(Tolerant):
    """One slot."""

    id: Name
    tagid: str | None = Field(None, max_length=TAG_LENGTH, description="The scene, where it is one of the bundle's.")
    bidfloor: float = Field(0.0, ge=0, le=FLOOR_MAX, allow_inf_nan=False, description="Least price, CPM.")
    bidfloorcur: str = Field("USD", min_length=CURRENCY_LENGTH, max_length=CURRENCY_LENGTH)
    banner: Any = Field(None, description="A format that is taken: `format`, `w`, `h`, `battr`, `btype`, `mimes`.")
    video: Any = Field(None, description="The same: `mimes`, `minduration`, `maxduration`, `battr`.")
    audio: Any = Field(None, description="The same as of video.")
    native: Any = Field(None, description="The same: `battr`.")
    pmp: Any = Field(None, description="Private deals: `private_auction`, `deals`.")
