"""The light embedder: hashed TF-IDF of an item's words and price, reduced by truncated SVD.

Terms are hashed, so there is no vocabulary to carry along and a new word is not an error; all that is learnt are two
tensors. Shapes: N items, H hashed terms, E features.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from scipy import sparse
from sklearn.feature_extraction import FeatureHasher
from sklearn.utils.extmath import randomized_svd

from adbeam.errors import UserError
from adbeam.tokens.config import EmbedderConfig
from adbeam.tokens.embedders.base import field_texts, normalise

WORD = re.compile(r"\w+")
BUCKETS_PER_OCTAVE = 2


class AttributeEmbedder:
    """TF-IDF over title, category, brand and advertiser words and price buckets -> SVD -> unit vectors."""

    kind = "attributes"

    def __init__(self, config: EmbedderConfig) -> None:
        self.config = config
        self.idf_H = np.zeros(0, np.float32)
        self.component_HE = np.zeros((0, 0), np.float32)

    @property
    def dimensions(self) -> int:
        """E; below `config.dimensions` where the sample has fewer distinct terms."""
        return self.component_HE.shape[1]

    def fit(self, sample: pa.Table, *, seed: int) -> None:
        """Learn term weights and the SVD; raises UserError when the sample holds no term at all."""
        count_NH = self._terms(sample)
        documents_H = self._weigh(count_NH)
        if not documents_H.any():
            raise UserError(
                "no item of the catalogue has any text or price",
                field="tokens.embedder.text_fields",
                value=list(self.config.text_fields),
                remedy="map columns that describe the items",
            )
        rank = min(self.config.dimensions, int((documents_H > 0).sum()), count_NH.shape[0])
        _, _, component_EH = randomized_svd(self._weighted(count_NH), n_components=rank, n_iter=4, random_state=seed)
        self.component_HE = np.ascontiguousarray(component_EH.T, np.float32)

    def embed(self, items: pa.Table) -> np.ndarray:
        """float32 [N, E]: unit vectors; zeros where the item has no known term."""
        return normalise(np.asarray(self._weighted(self._terms(items)) @ self.component_HE, np.float32))

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Settings and tensors `idf` [H], `component` [H, E]."""
        settings = {"kind": self.kind, "config": self.config.model_dump(mode="json")}
        return settings, {"idf": torch.from_numpy(self.idf_H), "component": torch.from_numpy(self.component_HE)}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """The fitted embedder again."""
        embedder = cls(EmbedderConfig.parse(settings["config"], source="embedder settings"))
        embedder.idf_H = tensors["idf"].cpu().numpy()
        embedder.component_HE = tensors["component"].cpu().numpy()
        return embedder

    def term_vectors(self, items: pa.Table) -> sparse.csr_matrix:
        """float32 [N, H]: unit TF-IDF vectors of items whose terms are weighed among themselves, without the SVD; zeros
        where an item has no term."""
        count_NH = self._terms(items)
        self._weigh(count_NH)
        return sparse.csr_matrix(self._weighted(count_NH))

    def _weigh(self, count_NH: sparse.csr_matrix) -> np.ndarray:
        """Set the weight of each term; int [H], the items that have it."""
        documents_H = np.bincount(count_NH.indices, minlength=count_NH.shape[1])
        self.idf_H = (np.log((1 + count_NH.shape[0]) / (1 + documents_H)) + 1).astype(np.float32)
        self.idf_H[documents_H == 0] = 0
        return documents_H

    def _weighted(self, count_NH: sparse.csr_matrix) -> sparse.csr_matrix:
        weighted_NH = count_NH.multiply(self.idf_H[None, :]).tocsr()
        length_N = np.sqrt(np.asarray(weighted_NH.multiply(weighted_NH).sum(axis=1))).ravel()
        return sparse.diags_array(1 / np.maximum(length_N, 1e-12).astype(np.float32)) @ weighted_NH

    def _terms(self, items: pa.Table) -> sparse.csr_matrix:
        hasher = FeatureHasher(self.config.hashed_terms, input_type="string", alternate_sign=False, dtype=np.float32)
        count_NH = hasher.transform(self._documents(items))
        count_NH.data[:] = 1  # an attribute word said twice (category and title) is not twice as true
        return count_NH

    def _documents(self, items: pa.Table) -> Iterator[list[str]]:
        texts = field_texts(items, self.config.text_fields)
        prices = self._prices(items)
        for fields, price in zip(texts, prices, strict=True):
            terms = []
            for name, text in zip(self.config.text_fields, fields, strict=True):
                lowered = text.lower()
                terms += WORD.findall(lowered)
                if lowered:
                    terms.append(f"{name}={lowered}")
            if price is not None and price > 0:
                terms += price_terms(price)
            yield terms

    def _prices(self, items: pa.Table) -> list[float | None]:
        name = self.config.price_field
        if name is None or name not in items.column_names:
            return [None] * items.num_rows
        prices: list[float | None] = items.column(name).cast(pa.float64()).to_pylist()
        return prices


def price_terms(price: float) -> list[str]:
    """Two overlapping half-octave buckets, so that neighbouring prices share a term."""
    bucket = int(np.floor(np.log2(price) * BUCKETS_PER_OCTAVE))
    return [f"price~{bucket}", f"price~{bucket + 1}"]
