"""Extension points: every kind of part that settings choose by name and that other packages may add to.

A kind is a registry: our own names with their places, and the group of entry points by which other packages offer
theirs. Nothing stands here but text, so that settings can check a name without loading a part.
"""

from __future__ import annotations

from adbeam.imports.registry import Registry

POLICIES = Registry(
    "policy",
    {
        "static": "adbeam.beams.policies:StaticPolicy",
        "tabs": "adbeam.beams.policies:TabsPolicy",
        "tabs_floor": "adbeam.beams.policies:TabsPolicy",
        "deadline": "adbeam.beams.policies:DeadlinePolicy",
    },
    "adbeam.policies",
)
MODELS = Registry(
    "model.decoder",
    {"lazyar": "adbeam.model.lazyar:LazyAR", "gpr": "adbeam.model.gpr:Gpr", "mtp": "adbeam.model.mtp:MtpDecoder"},
    "adbeam.models",
)
SOURCES = Registry(
    "logs.source",
    {
        "completejourney": "adbeam.logs.sources.completejourney:CompleteJourneySource",
        "sequences": "adbeam.logs.sources.sequences:SequenceFileSource",
        "files": "adbeam.logs.sources.files:FilesSource",
    },
    "adbeam.sources",
)
EMBEDDERS = Registry(
    "tokens.embedder.kind",
    {
        "attributes": "adbeam.tokens.embedders.attributes:AttributeEmbedder",
        "language": "adbeam.tokens.embedders.language:LanguageEmbedder",
        "multimodal": "adbeam.tokens.embedders.multimodal:MultimodalEmbedder",
    },
    "adbeam.embedders",
)
QUANTIZERS = Registry(
    "tokens.quantizer.method",
    {
        "rq_kmeans": "adbeam.tokens.quantizers.rq_kmeans:RQKMeans",
        "rq_kmeans_plus": "adbeam.tokens.quantizers.rq_vae:RQKMeansPlus",
        "rq_vae": "adbeam.tokens.quantizers.rq_vae:RQVAE",
    },
    "adbeam.quantizers",
)
HISTORY_STORES = Registry(
    "store.backend",
    {
        "sqlite": "adbeam.serving.stores.sqlite:SqliteStore.of",
        "redis": "adbeam.serving.stores.redis:RedisStore.of",
    },
    "adbeam.history_stores",
)
LIST_OBJECTIVES = Registry(
    "objectives.preference.method",
    {
        "none": "adbeam.objectives.lists:no_loss",
        "rspo": "adbeam.objectives.lists:rspo",
        "dpo": "adbeam.objectives.lists:dpo",
        "sdpo": "adbeam.objectives.lists:sdpo",
        "grpo": "adbeam.objectives.lists:grpo",
        "ndcg_loss2": "adbeam.objectives.lists:ndcg",
    },
    "adbeam.list_objectives",
)
TRACKERS = Registry(
    "training.tracking.trackers",
    {
        "mlflow": "adbeam.training.tracking.trackers:MLflow",
        "wandb": "adbeam.training.tracking.trackers:WeightsAndBiases",
    },
    "adbeam.trackers",
)
KINDS = (POLICIES, MODELS, SOURCES, EMBEDDERS, QUANTIZERS, HISTORY_STORES, LIST_OBJECTIVES, TRACKERS)
"""All of them."""
