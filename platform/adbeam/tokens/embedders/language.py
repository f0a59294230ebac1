"""The text-model embedder: any local Hugging Face or sentence-transformers model folder.

The model is read from the folder alone (nothing is downloaded, no code of the folder is run) and its last hidden states
are averaged over the text. Shapes: N items, L tokens, E features.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch

from adbeam.errors import UserError
from adbeam.tokens.config import EmbedderConfig
from adbeam.tokens.embedders.base import field_texts, normalise

MODEL_SUFFIXES = (".json", ".safetensors", ".txt", ".model", ".jinja")


class LanguageEmbedder:
    """Mean-pooled last hidden states of a text model, as unit vectors."""

    kind = "language"

    def __init__(self, config: EmbedderConfig) -> None:
        folder = config.model_dir
        if folder is None or not (folder / "config.json").is_file():
            raise not_a_model(folder, "it holds no config.json")
        self.config = config
        self.tokenizer, self.model = self._load(folder)
        self._weights: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy sent to another process reads the model from its folder there."""
        return type(self), (self.config,)

    @property
    def dimensions(self) -> int:
        """E, the width of the model."""
        return int(self.model.config.hidden_size)

    def fit(self, sample: pa.Table, *, seed: int) -> None:
        """Nothing: the model is pretrained."""

    def embed(self, items: pa.Table) -> np.ndarray:
        """float32 [N, E]: unit vectors; zeros where the item has no text."""
        texts = [". ".join(filter(None, fields)) for fields in field_texts(items, self.config.text_fields)]
        x_NE = np.zeros((len(texts), self.dimensions), np.float32)
        # Texts of similar length share a batch: less padding.
        order = sorted((row for row, text in enumerate(texts) if text.strip()), key=lambda row: len(texts[row]))
        for start in range(0, len(order), self.config.model_batch):
            rows = order[start : start + self.config.model_batch]
            x_NE[rows] = self._pool([texts[row] for row in rows])
        return normalise(x_NE)

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Settings only: the model stays in its folder, known by the hash of its weights."""
        if self._weights is None:
            assert self.config.model_dir is not None
            self._weights = weights_hash(self.config.model_dir)
        return {"kind": self.kind, "config": self.config.model_dump(mode="json"), "weights": self._weights}, {}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """The embedder again; its model folder must still be there. Raises UserError when it is another model."""
        embedder = cls(EmbedderConfig.parse(settings["config"], source="embedder settings"))
        assert embedder.config.model_dir is not None
        if weights_hash(embedder.config.model_dir) != settings.get("weights"):
            raise not_a_model(embedder.config.model_dir, "its weights are not those the tokens were made with")
        embedder._weights = settings["weights"]
        return embedder

    def _load(self, folder: Path) -> tuple[Any, Any]:
        try:
            tokenizer = model_class("AutoTokenizer").from_pretrained(str(folder), local_files_only=True)
            model = model_class("AutoModel").from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise not_a_model(folder, str(error).splitlines()[0]) from None
        return tokenizer, model.eval()

    @torch.inference_mode()
    def _pool(self, texts: list[str]) -> np.ndarray:
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.config.max_tokens, return_tensors="pt"
        )
        hidden_NLE = self.model(**tokens).last_hidden_state
        mask_NL1 = tokens["attention_mask"][..., None].to(hidden_NLE.dtype)
        mean_NE: torch.Tensor = (hidden_NLE * mask_NL1).sum(dim=1) / mask_NL1.sum(dim=1).clamp(min=1)
        return mean_NE.float().numpy()


def model_files(folder: Path) -> list[Path]:
    """What a model needs of its folder: configuration, safetensors, vocabulary. Never code or pickles."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in MODEL_SUFFIXES)


def weights_hash(folder: Path) -> str:
    """A short hash of the safetensors of a model folder."""
    digest = sha256()
    for path in model_files(folder):
        if path.suffix == ".safetensors":
            with path.open("rb") as stream:
                while chunk := stream.read(1 << 24):
                    digest.update(chunk)
    return digest.hexdigest()[:16]


def model_class(name: str) -> Any:
    """A class of transformers; raises UserError when the package is not installed."""
    try:
        import transformers
    except ImportError:
        raise UserError(
            "a Hugging Face model needs the package transformers",
            field="tokens.embedder.kind",
            remedy="pip install transformers",
        ) from None
    return getattr(transformers, name)


def not_a_model(folder: Path | None, reason: str) -> UserError:
    """What to tell a user whose folder cannot be loaded."""
    return UserError(
        f"{folder} is not a Hugging Face model folder: {reason}",
        field="tokens.embedder.model_dir",
        value=str(folder),
        remedy="give a folder with config.json, model.safetensors and the tokenizer or processor",
    )
