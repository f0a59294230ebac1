"""Parts of a model as rankings of their own: the priors without the network, and the network without the priors."""

from __future__ import annotations

import dataclasses

import torch

from adbeam.bundle import Bundle
from adbeam.errors import UserError
from adbeam.evaluation.config import EvaluationConfig
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog

MODEL, PRIORS, NETWORK = "model", "model_priors_only", "model_network_only"
PRIOR_WEIGHTS, CODE_WEIGHTS = "context.priors.", "codes."
PRIOR_SETTINGS = {"history_prior": False, "trending_length": 0, "neighbour_prior": None}


def recommenders(bundle: Bundle, prepared: PreparedLog, config: EvaluationConfig) -> dict[str, Recommender]:
    """The bundle's model by the name of its row, with `evaluation.model_parts` beside its parts.

    Raises UserError where parts are asked of a model without priors.
    """
    bundles = {MODEL: bundle}
    if config.model_parts:
        bundles |= {PRIORS: _priors_only(bundle), NETWORK: _network_only(bundle)}
    trends = prepared.trends()
    return {
        name: Recommender.of(one, config.order_by, include_paused=True, trends=trends) for name, one in bundles.items()
    }


def _priors_only(bundle: Bundle) -> Bundle:
    """Codes are embeddings and output heads in one: codes of no length leave the logits to the priors."""
    if not any(name.startswith(PRIOR_WEIGHTS) for name in bundle.weights):
        raise UserError(
            "this model has no priors, so it has no parts",
            field="evaluation.model_parts",
            value=True,
            remedy="leave it out, or train with model.neighbour_prior, model.history_prior or model.trending_length",
        )
    weights = {
        name: torch.zeros_like(value) if name.startswith(CODE_WEIGHTS) else value
        for name, value in bundle.weights.items()
    }
    return dataclasses.replace(bundle, weights=weights)


def _network_only(bundle: Bundle) -> Bundle:
    weights = {name: value for name, value in bundle.weights.items() if not name.startswith(PRIOR_WEIGHTS)}
    return dataclasses.replace(
        bundle, weights=weights, model_config=bundle.model_config.model_copy(update=PRIOR_SETTINGS)
    )
