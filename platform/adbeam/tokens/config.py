"""Settings of tokenization."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from adbeam.imports.extension_points import EMBEDDERS, QUANTIZERS
from adbeam.records import CATALOGUE_SCHEMA
from adbeam.settings import Extensible, Section


class EmbedderConfig(Extensible):
    """How a catalogue item becomes a vector."""

    kind: Annotated[str, AfterValidator(EMBEDDERS.check)] = Field(
        "attributes",
        description="attributes: TF-IDF of the item's words, reduced by SVD. language: a Hugging Face text model. "
        "multimodal: a Hugging Face image-text-to-text model.",
    )
    model_dir: Path | None = Field(None, description="Folder of the Hugging Face model of the last two kinds.")
    model_batch: int = Field(64, ge=1, description="Items a Hugging Face model sees at a time.")
    max_tokens: int = Field(128, ge=8, description="Tokens of a text that a text model reads.")
    pooling: Literal["mean", "last"] = Field("mean", description="How a multimodal model's hidden states are pooled.")
    image_field: str | None = Field("image", description="Column of image paths or bytes, or of lists of video frames.")
    image_root: Path | None = Field(None, description="Folder that relative image paths start from.")
    form_field: str | None = Field("ad_form", description="Column that names the ad form, which picks the instruction.")
    text_fields: tuple[str, ...] = Field(
        ("title", "category", "brand", "advertiser"), min_length=1, description="Catalogue columns read as text."
    )
    price_field: str | None = Field("price", description="Catalogue column cut into half-octave price buckets.")
    dimensions: int = Field(64, ge=2, description="E, features of the content vector after SVD.")
    hashed_terms: int = Field(32768, ge=256, description="Columns of the hashed term matrix.")
    behaviour_dimensions: int = Field(32, ge=0, description="Features from co-occurrence in training events; 0 is off.")
    behaviour_weight: float = Field(0.5, ge=0, description="Length of the behaviour part; the content part has 1.")
    behaviour_prior_events: float = Field(
        5.0, ge=0, description="Events an item needs before its own behaviour outweighs what its content predicts."
    )
    sample_items: int = Field(60_000, ge=1, description="Items the term weights and the SVD are fitted on.")
    batch_items: int = Field(8192, ge=1, description="Items embedded at a time.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind in ("language", "multimodal") and self.model_dir is None:
            raise ValueError(f"kind {self.kind!r} needs model_dir, the folder of a Hugging Face model")
        return self


class CooccurrenceConfig(Section):
    """Co-occurrence learning (GR4AD 1.2.1): a projection of the frozen content vectors, taught by Swing neighbours."""

    enabled: bool = Field(False, description="Learn the projection from training events before quantization.")
    swing_alpha: float = Field(1.0, ge=0, description="Swing: 1 / (alpha + items two users share).")
    neighbours: int = Field(20, ge=1, description="Swing neighbours of an item that are positives.")
    max_items_per_user: int = Field(200, ge=2, description="Newest items of a user that count.")
    items_per_range: int = Field(4096, ge=1, description="Items whose neighbours are summed at a time: bounds memory.")
    temperature: float = Field(0.07, gt=0, description="tau of the contrastive loss.")
    hidden: int = Field(512, ge=1, description="Width of the projection's hidden layer.")
    dropout: float = Field(0.1, ge=0, lt=1)
    batch_items: int = Field(2048, ge=4, description="Items of a batch; what is not a positive is a negative.")
    epochs: int = Field(30, ge=1, description="Passes over the items that have neighbours.")
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)


class NeighboursConfig(Section):
    """Directed item neighbours: what users choose after an item, and what reads like it."""

    window_events: int = Field(10, ge=1, description="Two events of a user further apart are no pair.")
    distance_decay: float = Field(0.8, gt=0, le=1, description="A pair counts by this to the power of distance - 1.")
    length_damping: float = Field(0.25, ge=0, description="A pair counts by 1 / events of its user to this power.")
    backward_weight: float = Field(0.1, ge=0, description="Of a pair read against time; 1 would know no direction.")
    source_damping: float = Field(0.5, ge=0, description="A score counts by 1 / events of the source to this power.")
    target_damping: float = Field(0.1, ge=0, description="And by 1 / events of the neighbour to this power.")
    text_fields: tuple[str, ...] = Field(
        ("title", "category", "brand"),
        description="Catalogue columns read as text; [] leaves it out.",
    )
    text_weight: float = Field(0.8, ge=0, description="Of the cosine of two texts, beside a score from events.")
    text_power: float = Field(3.0, gt=0, description="The cosine counts to this power.")
    text_neighbours: int = Field(40, ge=1, description="Neighbours of an item by text.")
    neighbours: int = Field(256, ge=1, description="Neighbours of an item that are kept.")
    items_per_range: int = Field(4096, ge=1, description="Items whose pairs are summed at a time: bounds memory.")


class QuantizerConfig(Extensible):
    """How a vector becomes codes (GR4AD 1.2.2; GPR 2.2)."""

    method: Annotated[str, AfterValidator(QUANTIZERS.check)] = Field(
        "rq_kmeans", description="rq_kmeans_plus and rq_vae train an encoder and a decoder around the codebooks."
    )
    hashed_last_level: bool = Field(
        True, description="MG: the last level is a hash of business fields instead of a codebook."
    )
    business_fields: tuple[str, ...] = Field(
        ("item_id", "advertiser"), min_length=1, description="Catalogue columns hashed into the last level."
    )
    balanced: bool = Field(True, description="Bound the largest cell of every codebook on the fitted sample.")
    largest_cell_over_mean: float = Field(1.5, ge=1.05, description="That bound, as a multiple of the mean cell.")
    shrink_codebooks: bool = Field(
        True, description="Fit fewer codes where distinct vectors are scarce; false refuses such a catalogue."
    )
    vectors_per_code: int = Field(2, ge=2, description="Distinct sample vectors each code must have.")
    sample_vectors_per_code: int = Field(128, ge=2, description="Distinct vectors sampled for each code when fitting.")
    kmeans_iterations: int = Field(15, ge=1)
    balance_rounds: int = Field(4, ge=1, description="Rounds of balanced assignment and centroid update.")
    batch_vectors: int = Field(65_536, ge=1, description="Vectors encoded at a time.")
    hidden: int = Field(256, ge=1, description="Width of the learned quantizers' hidden layer.")
    latent_dimensions: int = Field(32, ge=1, description="Width of RQ-VAE's latent.")
    epochs: int = Field(60, ge=0, description="Passes over the sample that train a learned quantizer.")
    training_batch: int = Field(2048, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    quantization_weight: float = Field(1.0, ge=0, description="w_q of the loss.")


class GatesConfig(Section):
    """What tokens must reach before they are published; null switches a gate off."""

    max_collision: float | None = Field(0.30, ge=0, le=1, description="Col: share of occupied SIDs with several items.")
    max_items_per_sid: float | None = Field(1.5, ge=1, description="Cpr: items per occupied SID.")
    min_level_utilisation: float | None = Field(
        0.95, ge=0, le=1, description="Share of its codes every fitted codebook must use."
    )
    max_largest_cell_over_mean: float | None = Field(
        4.0, ge=1, description="Items of a codebook's largest cell over its mean, on the whole catalogue."
    )
    max_quarantined: float | None = Field(
        0.10, ge=0, le=1, description="Share of the catalogue without a usable vector."
    )


class TokensConfig(Section):
    """How a catalogue becomes semantic IDs. The codebook sizes are the model's (`model.codebooks`)."""

    workers: int = Field(0, ge=0, description="Ray actors that sum Swing and encode; 0: the job itself does.")
    embedder: EmbedderConfig = EmbedderConfig()
    cooccurrence: CooccurrenceConfig = CooccurrenceConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    gates: GatesConfig = GatesConfig()

    @model_validator(mode="after")
    def _known_columns(self) -> Self:
        if "sid" in self.quantizer.business_fields:
            raise ValueError("business_fields cannot hold `sid`: it is what the hash makes")
        return self


CATALOGUE_FIELDS: tuple[str, ...] = tuple(CATALOGUE_SCHEMA.names)
