"""What a replica says of itself: the body of its status, and the gauges of its load."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.controller import ControllerSignals
from adbeam.declared.encoder import FeatureEncoder
from adbeam.recorder import Recorder
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.queue.decode_loop import DecodeLoop


def replica_state(
    model: LoadedModel, decoding: DecodeLoop, policy: BeamPolicyConfig, config: ServingConfig, in_flight: int,
    recent: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """A ReplicaStatus but for what is known of the other replicas."""
    signals = decoding.signals()
    return {
        "model_version": model.version,
        "model_age_seconds": round(time.monotonic() - model.loaded_s, 1),
        "scenes": model.facts.scenes,
        "policy": signals.policy,
        "rung": signals.rung,
        "widths": signals.widths,
        "full_widths": signals.full_widths,
        "full_width_capacity_per_second": decoding.full_width_capacity(),
        "arrivals_per_second": signals.arrival_rate_per_second,
        "demand_full_width": signals.demand_full_width,
        "utilisation": signals.utilisation,
        "queue_depth": decoding.depth,
        "in_flight": in_flight,
        "updates_watermark": None if model.live is None else model.live.watermark,
        "recent": recent,
        "ladder": [rung.widths for rung in decoding.ladder.rungs],
        "policy_settings": policy.model_dump(mode="json"),
        "openrtb": config.openrtb.model_dump(include={"currency", "price_min_cpm", "price_max_cpm"}),
        "money": {"unit": model.facts.money, "bidding": model.facts.may_bid},
        "precision": asdict(model.facts.precision),
        "processor": decoding.processor.summary(),
    }


def publish_state(
    model: LoadedModel, decoding: DecodeLoop, signals: ControllerSignals, in_flight: int, metrics: Recorder
) -> dict[str, float]:
    """Set the gauges; returns what the autoscaling policy reads."""
    for name, value in _load_gauges(signals, decoding.depth, in_flight).items():
        metrics.set(name, value)
    metrics.set("adbeam_model_age_seconds", time.monotonic() - model.loaded_s, version=model.version)
    if model.live is not None:
        model.live.publish()
    if model.facts.told is not None:
        _publish_trained_shares(model.facts.told, metrics)
    decoding.processor.publish(metrics)
    return {
        "demand_full_width": float(signals.demand_full_width),
        "arrivals_per_second": float(signals.arrival_rate_per_second),
        "in_flight": float(in_flight),
        "queue_depth": float(decoding.depth),
        "rung": float(signals.rung),
        "rung_changes": float(signals.rung_changes),
    }


def _publish_trained_shares(told: FeatureEncoder, metrics: Recorder) -> None:
    """Set the gauges that drift of declared features is held against; none for a bundle that does not know them."""
    for feature in told.features:
        for what, share in (("missing", feature.missing_share), ("unknown", feature.unknown_share)):
            if share is not None:
                metrics.set("adbeam_feature_trained_share", share, feature=feature.name, what=what)


def _load_gauges(signals: ControllerSignals, depth: int, in_flight: int) -> dict[str, float]:
    """Gauges by name."""
    return {
        "adbeam_rung": signals.rung,
        "adbeam_rung_width": signals.widths[-1],
        "adbeam_queue_depth": depth,
        "adbeam_in_flight": in_flight,
        "adbeam_arrivals_per_second": signals.arrival_rate_per_second,
        "adbeam_demand_full_width": signals.demand_full_width,
        "adbeam_utilisation": signals.utilisation,
        "adbeam_cost_factor": signals.cost_factor,
    }
