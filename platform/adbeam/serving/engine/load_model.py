"""From a bundle's path to a model that a replica can take over: checked, timed, and on the update log.

`load_model` is the one way from a path to a LoadedModel; tests and other model families may hand a replica their own.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.cost import BatchCost
from adbeam.beams.ladder import Ladder, quality_by_widths
from adbeam.bundle import load_bundle
from adbeam.catalogue.creatives.table import Creatives
from adbeam.catalogue.live_ads import LiveAds
from adbeam.catalogue.open_updates import open_log
from adbeam.declared.agreement import check_told
from adbeam.identity.people import words_of
from adbeam.recorder import Recorder
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.calibrate import calibrate, check, record
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.loaded_model import LoadedModel, ModelFacts, check_currency
from adbeam.serving.engine.precision_choice import choose
from adbeam.serving.openrtb.places import check_scenes
from adbeam.serving.stores.store import HistoryStore

logger = logging.getLogger(__name__)


def load_model(
    path: Path,
    config: ServingConfig,
    policy: BeamPolicyConfig,
    store: HistoryStore,
    metrics: Recorder,
    cost: BatchCost | None = None,
) -> LoadedModel:
    """Verify and load a bundle, decode once, and time decodes unless `cost` is known.

    Raises UserError naming what is wrong with the bundle; call it in a thread of its own where requests are served.
    """
    bundle = load_bundle(path)
    check_currency(bundle.settings, bundle.version, config.openrtb.currency)
    check_told(bundle.told, bundle.version, config.features)
    engine = ModelEngine(
        bundle,
        config.engine,
        store,
        metrics,
        config.features,
        config.list_rules.most,
        config.frequency_caps,
        config.withheld,
    )
    columns, default = config.openrtb.creatives, config.openrtb.default_format
    if columns.named:
        engine.catalogue.declare(Creatives(columns, default, bundle.catalogue, bundle.version))
    check_scenes(config.openrtb, engine.scenes, bundle.version)
    engine.prepare_thread()
    check(engine)
    precision = choose(engine, config.engine.calibration_seconds)
    quality = quality_by_widths(engine.bundle.ladder_quality)
    widths = engine.full_widths
    ladder = Ladder.build(widths, None, quality, policy.ladder)
    if config.engine.cuda_graphs:
        record(engine, ladder, policy.max_batch, config.limits.count_max)
    if cost is None:
        cost = calibrate(engine, ladder, policy.max_batch, config.engine.calibration_seconds)
        logger.info(
            "decoding costs %.2f ms + a request (%.2f ms + rows x %.4f ms)", cost.a_ms, cost.c0_ms, cost.c1_ms_per_row
        )
    if config.engine.cuda_graphs:  # what it costs has a say in which rungs there are
        record(engine, Ladder.build(widths, cost, quality, policy.ladder), policy.max_batch, config.limits.count_max)
    popular = engine.catalogue.popular(config.fallback.size, engine.prices.fallback)
    live = follow(engine, config, metrics)
    nobody = words_of(bundle.settings.nobody_words)
    facts = ModelFacts(
        engine.version, cost, widths, quality, engine.scenes, engine.prices.unit, nobody, bundle.told, precision
    )
    catalogue = engine.catalogue
    return LoadedModel(
        engine,
        facts,
        popular,
        time.monotonic(),
        live,
        catalogue.index,
        catalogue,
        catalogue,
        engine.worn,
        engine.why,
        engine.campaigns,
    )


def follow(engine: ModelEngine, config: ServingConfig, metrics: Recorder) -> LiveAds | None:
    """Bring a model up to date with the update log and keep it there; None where no log is configured.

    Raises UserError when the log and the bundle do not belong together.
    """
    updates = open_log(config.updates)
    if updates is None:
        return None
    live = LiveAds(engine.bundle, engine.catalogue, engine.recommender.trie, updates, config.updates.poll_ms, metrics)
    live.start()
    return live
