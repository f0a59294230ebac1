"""From catalogue rows to SIDs: content vector, behaviour vector, quantizer, business hash.

The same object encodes the catalogue, one new ad online, and, restored from a bundle, an ad on a replica.

Shapes: N items, E features, F behaviour features, T SID levels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch

from adbeam.tokens.config import TokensConfig
from adbeam.tokens.cooccurrence.contrastive import Projection
from adbeam.tokens.cooccurrence.projection import learn_projection, load_projection, projection_tensors
from adbeam.tokens.embedders.base import Embedder
from adbeam.tokens.embedders.behaviour import Interactions, behaviour_vectors, predict, ridge
from adbeam.tokens.embedders.registry import build_embedder, load_embedder
from adbeam.tokens.quantizers.base import Quantizer
from adbeam.tokens.quantizers.hashed_level import hash_business_fields
from adbeam.tokens.quantizers.registry import build_quantizer, load_quantizer

MIN_USABLE_LENGTH = 1e-6
MAX_RIDGE_EVENTS = 50
"""An item's weight in the ridge regression stops growing here: beyond, its own vector is known well enough."""


@dataclass(frozen=True)
class Encoded:
    """SIDs of N catalogue rows. Where `usable_N` is false the vector is zero or not finite: no SID worth using."""

    sids_NT: np.ndarray
    usable_N: np.ndarray
    x_NE: np.ndarray


class Tokenizer:
    """Embedder, behaviour map and quantizer, fitted together."""

    def __init__(self, config: TokensConfig, embedder: Embedder, quantizer: Quantizer) -> None:
        self.config = config
        self.embedder = embedder
        self.quantizer = quantizer
        self.projection: Projection | None = None
        self.behaviour_map_EF: np.ndarray | None = None
        self._observed: dict[str, int] = {}
        self._observed_NF = np.zeros((0, 0), np.float32)
        self._events_N = np.zeros(0, np.int64)

    @classmethod
    def build(cls, config: TokensConfig, codebooks: Sequence[int], *, seed: int) -> Self:
        """The tokenizer that `config` describes, not yet fitted."""
        return cls(config, build_embedder(config.embedder), build_quantizer(config.quantizer, codebooks, seed=seed))

    def fit(self, sample: pa.Table, interactions: Interactions | None, *, seed: int) -> np.ndarray:
        """Fit everything on a sample of catalogue rows and, where given, on training events; returns their vectors."""
        self.__dict__.pop("version", None)
        self.embedder.fit(sample, seed=seed)
        x_NE = self.fit_vectors(sample, interactions, seed=seed)
        self.quantizer.fit(x_NE[usable(x_NE)])
        return x_NE

    def fit_vectors(self, sample: pa.Table, events: Interactions | None, *, seed: int) -> np.ndarray:
        """float32 [N, E + F]: the sample's vectors, after learning from `events` what is configured to be learnt."""
        item_ids, content_NE = sample["item_id"].to_pylist(), self._content(sample)
        if events is not None:
            number = {item_id: row for row, item_id in enumerate(events.item_ids)}
            event_item_N = np.array([number.get(item_id, -1) for item_id in item_ids])
            if self.config.cooccurrence.enabled:
                self.projection = learn_projection(
                    content_NE,
                    event_item_N,
                    events,
                    self.config.cooccurrence,
                    seed=seed,
                    workers=self.config.workers,
                )
            if self.config.embedder.behaviour_dimensions:
                self._fit_behaviour(self._projected(content_NE), event_item_N, events, number, seed=seed)
        return self._joined(item_ids, self._projected(content_NE))

    def vectors(self, items: pa.Table) -> np.ndarray:
        """float32 [N, E + F]: content and behaviour side by side; zeros or NaN where there is no content."""
        return self._joined(items["item_id"].to_pylist(), self._projected(self._content(items)))

    def encode(self, items: pa.Table) -> Encoded:
        """SIDs of catalogue rows; raises UserError when a business or text field is missing."""
        return self.encode_vectors(items, self.vectors(items))

    def encode_vectors(self, items: pa.Table, x_NE: np.ndarray) -> Encoded:
        """SIDs of catalogue rows whose `vectors` are at hand."""
        usable_N = usable(x_NE)
        business_N = None
        if self.config.quantizer.hashed_last_level:
            business_N = hash_business_fields(items, self.config.quantizer.business_fields)
        sids_NT = self.quantizer.encode(np.where(usable_N[:, None], x_NE, 0), business_N)
        return Encoded(sids_NT, usable_N, x_NE)

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """(settings for JSON, tensors for safetensors). Observed behaviour is left out: later items are new."""
        quantizer_settings, tensors = self.quantizer.state()
        embedder_settings, embedder_tensors = self.embedder.state()
        tensors = {**tensors, **{f"embedder.{name}": tensor for name, tensor in embedder_tensors.items()}}
        if self.projection is not None:
            tensors |= projection_tensors(self.projection)
        if self.behaviour_map_EF is not None:
            tensors["behaviour.map"] = torch.from_numpy(self.behaviour_map_EF)
        settings = {
            "config": self.config.model_dump(mode="json"),
            "quantizer": quantizer_settings,
            "embedder": embedder_settings,
        }
        return settings, tensors

    @cached_property
    def version(self) -> str:
        """A short hash of the fitted state, wherever its files lie: equal versions give equal SIDs."""
        settings, tensors = self.state()
        digest = sha256(json.dumps(_without_places(settings), sort_keys=True).encode())
        for name in sorted(tensors):
            digest.update(name.encode() + tensors[name].contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    @classmethod
    def from_state(
        cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, model_dir: Path | None = None
    ) -> Self:
        """The fitted tokenizer again, from `settings` and `codebooks.safetensors` of tokens or of a bundle.

        `model_dir` is where the embedder's model lies now, if it has moved since (a bundle carries it along).
        """
        prefix = "embedder."
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        embedder = dict(settings["embedder"])
        if model_dir is not None:
            embedder["config"] = {**embedder["config"], "model_dir": str(model_dir)}
        tokenizer = cls(
            TokensConfig.parse(settings["config"], source="tokens settings"),
            load_embedder(embedder, own),
            load_quantizer(settings["quantizer"], tensors),
        )
        tokenizer.projection = load_projection(tensors)
        if "behaviour.map" in tensors:
            tokenizer.behaviour_map_EF = tensors["behaviour.map"].cpu().numpy()
        return tokenizer

    def _content(self, items: pa.Table) -> np.ndarray:
        step = self.config.embedder.batch_items
        parts = [self.embedder.embed(items.slice(start, step)) for start in range(0, items.num_rows, step)]
        return np.concatenate(parts) if parts else np.zeros((0, self.embedder.dimensions), np.float32)

    def _projected(self, content_NE: np.ndarray) -> np.ndarray:
        return content_NE if self.projection is None else self.projection.apply_to(content_NE)

    def _joined(self, item_ids: list[str], content_NE: np.ndarray) -> np.ndarray:
        if self.behaviour_map_EF is None:
            return content_NE
        behaviour_NF = self._behaviour(item_ids, content_NE)
        behaviour_NF[~usable(content_NE)] = 0
        return np.concatenate([content_NE, self.config.embedder.behaviour_weight * behaviour_NF], axis=1)

    def _fit_behaviour(
        self,
        content_NE: np.ndarray,
        event_item_N: np.ndarray,
        events: Interactions,
        number: dict[str, int],
        *,
        seed: int,
    ) -> None:
        self._observed, self._events_N = number, events.events_N
        self._observed_NF = behaviour_vectors(events, self.config.embedder.behaviour_dimensions, seed=seed)
        known_N = (event_item_N >= 0) & usable(content_NE)
        if known_N.any():
            weight_N = np.minimum(self._events_N[event_item_N[known_N]], MAX_RIDGE_EVENTS)
            own_NF = self._observed_NF[event_item_N[known_N]]
            self.behaviour_map_EF = ridge(content_NE[known_N], own_NF, weight_N)

    def _behaviour(self, item_ids: list[str], content_NE: np.ndarray) -> np.ndarray:
        """float32 [N, F]: (events * own + prior * predicted) / (events + prior)."""
        assert self.behaviour_map_EF is not None
        mixed_NF = predict(content_NE, self.behaviour_map_EF).astype(np.float32)
        pairs = [(row, self._observed[i]) for row, i in enumerate(item_ids) if i in self._observed]
        if pairs:
            rows, seen = np.array(pairs).T
            events_N1 = self._events_N[seen, None].astype(np.float32)
            prior = self.config.embedder.behaviour_prior_events
            own_NF = events_N1 * self._observed_NF[seen]
            mixed_NF[rows] = (own_NF + prior * mixed_NF[rows]) / np.maximum(events_N1 + prior, 1e-12)
        return mixed_NF


def _without_places(settings: Any) -> Any:
    """Settings without the folders that they name: a model is known by its weights, not by where it lies."""
    if not isinstance(settings, dict):
        return settings
    return {key: _without_places(value) for key, value in settings.items() if key not in ("model_dir", "image_root")}


def usable(x_NE: np.ndarray) -> np.ndarray:
    """bool [N]: whether a vector is finite and not zero."""
    length_N = np.linalg.norm(np.nan_to_num(x_NE, nan=0.0, posinf=0.0, neginf=0.0), axis=1)
    usable_N: np.ndarray = np.isfinite(x_NE).all(axis=1) & (length_N > MIN_USABLE_LENGTH)
    return usable_N
