"""The multimodal embedder (GR4AD 1.2.1, UAE): any local Hugging Face image-text-to-text model folder.

Each ad is put into an instruction for its form (live stream, product, ...), with its image or video frames where it has
any; the model's last hidden states are pooled. Shapes: N items, L tokens, E features.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from adbeam.errors import UserError
from adbeam.tokens.embedders.base import field_texts, normalise
from adbeam.tokens.embedders.language import LanguageEmbedder, model_class, not_a_model

log = logging.getLogger(__name__)

GENERAL = "general"
INSTRUCTIONS: dict[str, str] = {
    "live_stream": "This ad leads to a live stream. Describe the streamer, what is sold there, and the place.",
    "product": "This ad sells a product. Describe the product, its use, its brand and its price level.",
    "influencer": "This ad is told by an influencer. Describe the person, the audience and what is recommended.",
    "external_advertiser": "This ad is of an outside advertiser. Describe the industry, the brand and the offer.",
    "virtual_product": "This ad sells a virtual product. Describe the core value and the story it is sold with.",
    GENERAL: "Describe what this ad offers, to whom, and by whom.",
}
"""One instruction for each ad form; an ad without a form, or with an unknown one, gets the general instruction."""


class MultimodalEmbedder(LanguageEmbedder):
    """Pooled last hidden states of an image-text-to-text model, as unit vectors."""

    kind = "multimodal"

    @property
    def dimensions(self) -> int:
        """E, the width of the text part."""
        return int(self.model.config.get_text_config().hidden_size)

    def embed(self, items: pa.Table) -> np.ndarray:
        """float32 [N, E]: unit vectors; zeros without text and image, or where an image cannot be read."""
        fields = field_texts(items, self.config.text_fields)
        forms = _column(items, self.config.form_field)
        x_NE = np.zeros((items.num_rows, self.dimensions), np.float32)
        rows: dict[bool, list[tuple[int, str, list[Any]]]] = {True: [], False: []}
        for row, (texts, form, source) in enumerate(
            zip(fields, forms, _column(items, self.config.image_field), strict=True)
        ):
            try:
                images = [self._open(image) for image in _sources(source)]
            except (OSError, ValueError) as error:
                log.warning("item in row %d: image cannot be read: %s", row, error)
                continue
            if images or any(text.strip() for text in texts):
                rows[bool(images)].append((row, self._prompt(texts, form, len(images)), images))
        for group in rows.values():  # with images and without: a batch is one or the other
            for start in range(0, len(group), self.config.model_batch):
                batch = group[start : start + self.config.model_batch]
                x_NE[[row for row, _, _ in batch]] = self._states(batch)
        return normalise(x_NE)

    def _load(self, folder: Path) -> tuple[Any, Any]:
        try:
            processor = model_class("AutoProcessor").from_pretrained(str(folder), local_files_only=True)
            model = model_class("AutoModelForImageTextToText").from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise not_a_model(folder, str(error).splitlines()[0]) from None
        if not hasattr(processor, "image_processor"):
            raise not_a_model(folder, "its processor takes no images")
        return processor, model.eval()

    def _prompt(self, texts: Sequence[str], form: object, images: int) -> str:
        described = [f"{name}: {text}" for name, text in zip(self.config.text_fields, texts, strict=True) if text]
        text = "\n".join([INSTRUCTIONS.get(str(form), INSTRUCTIONS[GENERAL]), *described])
        if getattr(self.tokenizer, "chat_template", None):
            content = [{"type": "image"}] * images + [{"type": "text", "text": text}]
            message = [{"role": "user", "content": content}]
            return str(self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        return f"{getattr(self.tokenizer, 'image_token', '<image>')} " * images + text

    @torch.inference_mode()
    def _states(self, batch: Sequence[tuple[int, str, list[Any]]]) -> np.ndarray:
        images = [image for _, _, mine in batch for image in mine]
        inputs = self.tokenizer(
            text=[prompt for _, prompt, _ in batch], images=images or None, padding=True, return_tensors="pt"
        )
        hidden_NLE = self.model.base_model(**inputs).last_hidden_state.float()
        return pool(hidden_NLE, inputs["attention_mask"], self.config.pooling).numpy()

    def _open(self, source: str | bytes) -> Any:
        from PIL import Image

        if isinstance(source, bytes):
            return Image.open(io.BytesIO(source)).convert("RGB")
        root = self.config.image_root
        return Image.open(root / source if root else source).convert("RGB")


def pool(hidden_NLE: Tensor, mask_NL: Tensor, pooling: str) -> Tensor:
    """float32 [N, E]: the mean over the tokens of each text, or the state of its last token."""
    if pooling == "mean":
        mask_NL1 = mask_NL[..., None].to(hidden_NLE.dtype)
        return (hidden_NLE * mask_NL1).sum(dim=1) / mask_NL1.sum(dim=1).clamp(min=1)
    place_NL = torch.arange(mask_NL.shape[1]).expand_as(mask_NL)
    last_N = (place_NL * mask_NL).argmax(dim=1)  # whichever side the padding is on
    return hidden_NLE[torch.arange(len(hidden_NLE)), last_N]


def _column(items: pa.Table, name: str | None) -> list[Any]:
    if name is None or name not in items.column_names:
        return [None] * items.num_rows
    return list(items.column(name).to_pylist())


def _sources(value: Any) -> list[str | bytes]:
    """The images of an ad: none, one (a path or the bytes), or the frames of a video."""
    if value is None or value == "":
        return []
    if isinstance(value, (str, bytes)):
        return [value]
    if isinstance(value, list):
        return [source for source in value if source]
    raise UserError(
        "an image column holds paths, bytes, or lists of them",
        field="tokens.embedder.image_field",
        value=type(value).__name__,
    )
