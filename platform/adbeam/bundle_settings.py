"""What a bundle tells beside the model's shape: a contract between training, which writes it, and all that read it.

It is the part `settings` of a bundle's `config.json`. Keys that this version does not know are kept: a bundle that is
written again (adbeam/online) loses nothing.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adbeam.errors import UserError
from adbeam.features.spec import FeatureSpec, ModelShape

DEFAULT_SCENE = "default"


class BundleSettings(BaseModel):
    """Read by evaluation, rewards, online learning, serving and `adbeam ads`."""

    # No Section: its strictness about keys is for people; a bundle of a later version may hold more.
    model_config = ConfigDict(extra="allow", frozen=True)

    ecpm_means: list[float] = Field(description="Mean eCPM of each bucket, in the catalogue's currency.")
    feature_spec: dict[str, Any] | None = Field(
        None, description="FeatureSpec.as_dict of the features it was trained with; unknown when unset."
    )
    tokens: dict[str, Any] = Field(default_factory=dict, description="Tokenizer.state and its `version`.")
    updates_watermark: int = Field(0, description="Number of the last ad update that the catalogue holds.")
    scenes: list[str] = Field(default_factory=list, description="Scenes of the training rows, sorted.")
    currency: str | None = Field(None, description="ISO 4217 code that the log declared for its money; else absent.")
    nobody_words: list[str] | None = Field(
        None, description="User ids that mean nobody, where the log declared its own (logs.files.nobody_words)."
    )
    value: str = Field("price_or_bid", description="What targets were worth in learning (logs.value); absent: that.")

    @classmethod
    def parse(cls, stored: Any, source: str) -> Self:
        """What `as_dict` stored; raises UserError naming what is missing or of another type."""
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, ("settings", *first["loc"])))
            raise UserError(f"{source}: {place}: {first['msg']}", remedy="export the bundle again") from None

    @field_validator("tokens", "updates_watermark", "scenes", mode="before")
    @classmethod
    def _nothing_said(cls, value: Any, info: Any) -> Any:
        """null means what an absent key means."""
        return cls.model_fields[info.field_name].get_default(call_default_factory=True) if value is None else value

    @property
    def tokens_version(self) -> str:
        """Which tokenizer made its semantic IDs; empty where that is unknown."""
        return str(self.tokens.get("version", ""))

    @property
    def scene_names(self) -> tuple[str, ...]:
        """The scenes, at least one."""
        return tuple(self.scenes) or (DEFAULT_SCENE,)

    @property
    def priced(self) -> bool:
        """Whether the log knew money: without any, every bucket's mean is 0."""
        return any(self.ecpm_means)

    def as_dict(self) -> dict[str, Any]:
        """What `config.json` holds: what was given, and only that."""
        return self.model_dump(exclude_unset=True)

    def unlike(self, shape: ModelShape) -> list[str]:
        """What of the features that the model learned from this version builds otherwise; nothing where they are
        unknown."""
        if self.feature_spec is None:
            return []
        built = FeatureSpec.of(shape).as_dict()
        try:
            stored = FeatureSpec.from_dict(self.feature_spec).as_dict()
        except TypeError:  # names of another version
            return sorted(self.feature_spec.keys() ^ built.keys())
        return [name for name in built if stored[name] != built[name]]
