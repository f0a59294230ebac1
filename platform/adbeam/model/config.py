"""Settings of the context processor and the decoder."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from adbeam.imports.extension_points import MODELS
from adbeam.settings import Extensible, Section, described_as_before
from adbeam.tokens.config import NeighboursConfig


class NeighbourPriorConfig(NeighboursConfig):
    """Section `model.neighbour_prior`: item neighbours vote for codes (not in GR4AD). Needs training.prefixes."""

    neighbours: int = Field(
        32, ge=1, description="Neighbours of an item that vote; each takes 20 bytes of the model with three levels."
    )
    history_events: int = Field(5, ge=1, description="Newest events of a user whose neighbours vote.")
    age_decay: float = Field(
        0.6, gt=0, le=1, description="An event's votes count by this to the power of newer ones, before training."
    )


class GprConfig(Section):
    """Parts of GPR that come before the code path (docs/gpr.md)."""

    hsd_layers: int = Field(2, ge=1, description="HSD blocks over the request's sequence.")
    thinking_tokens: int = Field(
        4, ge=0, le=64, description="Learnt tokens that filter the intent embeddings; 0: the path reads all of them."
    )
    head_weights: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        max_length=8,
        description="omega_j of each prediction head; they sum to 1. The first learns what a request brought, the j-th "
        "the (j-1)-th next ad after it; answers mix all heads by these weights. The paper has four heads.",
    )

    @model_validator(mode="after")
    def _heads_are_a_mixture(self) -> Self:
        if min(self.head_weights) <= 0 or abs(sum(self.head_weights) - 1) > 1e-6:
            raise ValueError(f"head_weights must be positive and sum to 1, not to {sum(self.head_weights):g}")
        if len(self.head_weights) > 1 and not self.thinking_tokens:
            raise ValueError("head_weights: several heads need thinking_tokens, which are each head's own")
        return self


class ModelConfig(Extensible):
    """Shapes of LazyAR (GR4AD 1.3-1.4). `lazy_layers` = 0 is the plain autoregressive decoder."""

    decoder: Annotated[str, AfterValidator(MODELS.check)] = Field(
        "lazyar",
        description="gpr: HSD and thinking tokens before the code path (docs/gpr.md). mtp: DeepSeek-style, one shallow "
        "module a step after a full first one; a baseline.",
    )
    width: int = Field(96, ge=8, description="Model width D.")
    layers: int = Field(6, ge=1, description="Decoder layers L.")
    lazy_layers: int = Field(4, ge=0, description="K: the first layers that do not see the previous code (K = 2/3 L).")
    heads: int = Field(4, ge=1, description="Query heads of both attentions.")
    context_kv_heads: int = Field(2, ge=1, description="G_kv: heads of the context keys and values.")
    context_kv_groups: int = Field(2, ge=1, description="L_kv: groups of layers that share one context K/V.")
    separate_values: bool = Field(False, description="S_kv = 2: own values; false ties values to keys (S_kv = 1).")
    ffn_multiple: int = Field(4, ge=1)
    codebooks: tuple[int, ...] = Field((256, 128, 256), min_length=1, description="V_t of each SID level.")
    ecpm_buckets: int = Field(32, ge=2, description="Equal-frequency eCPM buckets, the step after the SID.")
    short_length: int = Field(64, ge=1, description="Newest events in the context.")
    long_length: int = Field(48, ge=0, description="Most frequent items of the whole history in the context.")
    item_buckets: int = Field(16384, ge=16, description="Hash buckets that give context tokens an item identity.")
    prefix_buckets: int = Field(8192, ge=16, description="Hash buckets of the SID prefix (s_1, s_2) of context tokens.")
    user_buckets: int = Field(4096, ge=1, description="Hash buckets of the user id; 1 leaves the user id out.")
    trending_length: int = Field(
        0, ge=0, le=64, description="Ads that convert most lately and vote beside the user's history (not in GR4AD)."
    )
    history_prior: bool = Field(
        False, description="Let history tokens vote for their own next code (not in GR4AD); for logs with repeats."
    )
    neighbour_prior: NeighbourPriorConfig | None = Field(
        None, description="Let neighbours of the newest events vote for the next code (not in GR4AD); {} turns it on."
    )
    prior_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training contexts in which no prior votes, so that the rest learns too."
    )
    path_codes: bool = Field(
        False,
        description="Embed the previous code together with its hashed path (not in GR4AD): level 3 sees (s_1, s_2).",
    )
    history_layers: int = Field(
        0, ge=0, description="Causal self-attention layers over the newest events before their keys (not in GR4AD)."
    )
    history_from_zero: bool = Field(
        False, description="Begin with history_layers that change nothing, so that they only add what they have learnt."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of a training target that is spread over its level's whole codebook."
    )
    cosine_temperature: float | None = Field(
        None, gt=0, description="Logits of SID levels are cosines of state and code over this; unset: plain products."
    )
    recency_bias: bool = Field(
        False,
        description="Attention to the newest events fades by a learnt bias for each age and head (not in GR4AD); for "
        "logs without times.",
    )
    copy_at_start: bool = Field(
        True, description="Begin with weights that copy codes of the history; false for logs without repeats."
    )
    order_only: bool = Field(
        False,
        description="Contexts tell codes and actions in their order and nothing of times, counts, places and users; "
        "for logs of items in order. Needs long_length 0; training.prefixes needs it.",
    )
    context: Literal["linear", "hsd"] = Field(
        "linear",
        description="linear: keys and values of each token alone, as in GR4AD. hsd: GPR's typed sequence, where tokens "
        "know each other; decoder gpr always reads it.",
    )
    gpr: GprConfig = Field(GprConfig(), description="Read by decoder gpr and by context hsd.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Of residual branches and context tokens.")
    told: dict[str, tuple[int, int]] = Field(
        default={},
        description="{declared feature: [codes, columns]}, written by train from what prepare fitted (see features); "
        "leave it out.",
    )
    told_items: dict[str, tuple[int, int]] = Field(
        default={}, description="The same of declared features of items; leave it out."
    )

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A model that is told nothing is described as before features could be declared for it."""
        young = ("order_only", "neighbour_prior", "prior_dropout", "history_from_zero", "label_smoothing")
        shape = described_as_before(plain(self), "options", "told", "told_items", "cosine_temperature", *young)
        new = () if self.reads_hsd else ("context", "gpr")
        return {name: value for name, value in shape.items() if name not in new}

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.lazy_layers >= self.layers:
            raise ValueError(f"lazy_layers ({self.lazy_layers}) must be below layers ({self.layers})")
        if self.width % self.heads or self.heads % self.context_kv_heads:
            raise ValueError("width must divide by heads, and heads by context_kv_heads")
        if self.layers % self.context_kv_groups:
            raise ValueError("layers must divide by context_kv_groups")
        if self.decoder == "mtp" and self.path_codes:
            raise ValueError("path_codes belong to decoder lazyar")
        if self.decoder == "mtp" and self.context == "hsd":
            raise ValueError("context hsd belongs to decoders lazyar and gpr")
        if self.reads_hsd and (self.history_layers or self.recency_bias):
            raise ValueError("history_layers and recency_bias belong to context linear: HSD has layers and ages itself")
        if self.reads_hsd and self.neighbour_prior is not None:
            raise ValueError("neighbour_prior and the prefixes it learns from belong to context linear: HSD has none")
        if self.order_only and (self.long_length or self.trending_length or self.told):
            raise ValueError(
                "order_only: frequent items, trends and declared features tell more than an order; set long_length and "
                "trending_length to 0 and declare no feature with model: true, or leave order_only out"
            )
        if any(size < 1 for size in self.codebooks):
            raise ValueError("every codebook needs at least one code")
        return self

    @property
    def reads_hsd(self) -> bool:
        """Whether contexts are read by HSD."""
        return self.decoder == "gpr" or self.context == "hsd"

    @property
    def mixture(self) -> tuple[float, ...]:
        """omega_j of each prediction head; a model without several has one of weight 1."""
        return self.gpr.head_weights if self.decoder == "gpr" else (1.0,)

    @property
    def levels(self) -> int:
        """T, the number of SID levels."""
        return len(self.codebooks)

    @property
    def head_width(self) -> int:
        """Features of one attention head."""
        return self.width // self.heads

    @property
    def context_length(self) -> int:
        """S: one static token, the short and the long pathway."""
        return 1 + self.short_length + self.long_length
