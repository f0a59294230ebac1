"""The one configuration of the jobs: every section, and the size dial that sets their defaults together.

Serving has its own (adbeam/serving/config.py): a Serve application is configured by its own YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from adbeam.catalogue.config import UpdatesConfig
from adbeam.decoding.config import DecodingConfig
from adbeam.evaluation.config import EvaluationConfig
from adbeam.export.config import ExportConfig
from adbeam.foundation.config import FoundationConfig, RepresentConfig
from adbeam.logs.config import LogsConfig
from adbeam.model.config import ModelConfig
from adbeam.objectives.config import ObjectivesConfig
from adbeam.online.config import OnlineConfig
from adbeam.rewards.config import ListsConfig, RewardConfig
from adbeam.settings import Section, read_yaml, set_key
from adbeam.targeting.features import FeaturesSection
from adbeam.tokens.config import TokensConfig
from adbeam.training.config import TrainingConfig

Size = Literal["tiny", "small", "base", "paper"]

SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "model": {"width": 96, "layers": 6, "lazy_layers": 4, "heads": 4, "codebooks": (256, 128, 256)},
        "decoding": {"widths": (32, 64, 128)},
        "training": {"batch_requests": 128},
    },
    "small": {
        "model": {"width": 256, "layers": 9, "lazy_layers": 6, "heads": 8, "context_kv_groups": 3,
                  "codebooks": (1024, 1024, 1024), "short_length": 95, "long_length": 32},
        "decoding": {"widths": (64, 128, 128)},
        "training": {"batch_requests": 256},
    },
    "base": {
        "model": {"width": 512, "layers": 9, "lazy_layers": 6, "heads": 8, "context_kv_groups": 3,
                  "codebooks": (4096, 1024, 1024), "short_length": 191, "long_length": 64},
        "decoding": {"widths": (64, 128, 256)},
        "training": {"batch_requests": 512},
    },
    "paper": {
        "model": {"width": 1024, "layers": 9, "lazy_layers": 6, "heads": 16, "context_kv_groups": 3,
                  "codebooks": (16384, 4096, 1024), "short_length": 383, "long_length": 128,
                  "item_buckets": 2048, "prefix_buckets": 2048, "user_buckets": 1024},
        "decoding": {"widths": (128, 256, 512)},
        "training": {"batch_requests": 1024},
    },
}  # fmt: skip
"""What each size sets; a value in the YAML wins over it. `paper` is GR4AD's deployed shape (0.16 B parameters)."""


class Config(Section):
    """Everything the jobs read."""

    size: Size = Field("tiny", description="Sets width, depth, codebooks, beams and batch together.")
    work_dir: Path = Field(Path("runs/default"), description="Where every step writes its folder.")
    seed: int = Field(0, ge=0)
    features: FeaturesSection = Field(default={})
    logs: LogsConfig = LogsConfig()
    tokens: TokensConfig = TokensConfig()
    updates: UpdatesConfig = UpdatesConfig()
    model: ModelConfig = ModelConfig()
    objectives: ObjectivesConfig = ObjectivesConfig()
    training: TrainingConfig = TrainingConfig()
    foundation: FoundationConfig = FoundationConfig()
    represent: RepresentConfig = RepresentConfig()
    rewards: RewardConfig = RewardConfig()
    lists: ListsConfig = ListsConfig()
    online: OnlineConfig = OnlineConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()
    decoding: DecodingConfig = DecodingConfig()

    @model_validator(mode="before")
    @classmethod
    def _apply_size(cls, values: Any) -> Any:
        size = values.get("size", "tiny") if isinstance(values, Mapping) else None
        if not isinstance(size, str) or size not in SIZES:
            return values
        merged = dict(values)
        for section, defaults in SIZES[size].items():
            given = merged.get(section) or {}
            merged[section] = {**defaults, **given} if isinstance(given, Mapping) else given
        return merged

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if len(self.decoding.widths) != self.model.levels:
            raise ValueError(f"decoding.widths needs {self.model.levels} widths, one a level of model.codebooks")
        return self

    @classmethod
    def load(cls, path: str | Path | None, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read YAML, then apply `overrides` ({"training.epochs": 3}); raises UserError on anything amiss."""
        values, source = read_yaml(path) if path else {}, str(path or "configuration")
        for key, value in (overrides or {}).items():
            set_key(values, key, value, source)
        return cls.parse(values, source)
