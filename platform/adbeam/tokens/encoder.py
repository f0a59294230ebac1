"""The one encoder of new ads: the tokenizer of a tokens folder or of a bundle, loaded when the first ad comes."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import load_file

from adbeam.errors import UserError
from adbeam.tokens.tokenizer import Encoded, Tokenizer


class LazyTokenizer:
    """AdEncoder of `settings` and `tensors` as `Tokenizer.state` gives them; any thread may call it."""

    def __init__(
        self, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], model_dir: Path | None = None
    ) -> None:
        self._settings, self._tensors, self._model_dir = settings, tensors, model_dir
        self._tokenizer: Tokenizer | None = None
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Equal versions give equal SIDs; empty without a tokenizer."""
        if not self._settings.get("config"):
            return ""
        return str(self._settings.get("version") or self._loaded().version)

    def encode(self, items: pa.Table) -> Encoded:
        """SIDs of catalogue rows; raises UserError when there is no tokenizer or a column is missing."""
        with self._lock:
            return self._loaded().encode(items)

    def _loaded(self) -> Tokenizer:
        if self._tokenizer is None:
            if not self._settings.get("config"):
                raise UserError(
                    "the semantic IDs were made elsewhere: there is no tokenizer to encode a new ad with",
                    remedy="tokenize with adbeam and export again",
                )
            self._tokenizer = Tokenizer.from_state(self._settings, self._tensors, model_dir=self._model_dir)
        return self._tokenizer


def version_in(folder: Path) -> str:
    """The version of the tokenizer in a tokens folder; empty where its SIDs were made elsewhere."""
    path = folder / "tokens.json"
    if not path.is_file():
        return ""
    return LazyTokenizer(
        json.loads(path.read_text(encoding="utf-8")), load_file(folder / "codebooks.safetensors")
    ).version
