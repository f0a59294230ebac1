"""What the model is told: a logged request encoded offline is the same request encoded by serving, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.support.declared.told_log import (
    OS,
    SYSTEMS,
    by_request,
    events_of,
    prepare_told,
    told_config,
    write_told_log,
)

from adbeam.bundle import Bundle, load_bundle
from adbeam.catalogue.blocked import Blocked
from adbeam.config import Config
from adbeam.declared.encoder import FeatureEncoder
from adbeam.decoding.engines.context_reader import reader_of
from adbeam.errors import UserError
from adbeam.evaluation.evaluate import judged_requests
from adbeam.export.export_bundle import export
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import Request, UserSequence, read_sequences, requests_in
from adbeam.model.lazyar import LazyAR
from adbeam.serving.engine.contexts import ContextBuilder
from adbeam.serving.engine.request import Query
from adbeam.serving.http.context import context_model
from adbeam.serving.stores.store import user_history
from adbeam.training.data.build_rows import build_rows
from adbeam.training.trainer import train

SMALL = {"users": 16, "items": 40, "visits": 10}
FEATURES = OS | {
    "age": {"kind": "number", "model": True, "buckets": 5},
    "interests": {"kind": "list", "model": True, "longest": 3},
    "country": {"kind": "category"},
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[tuple[str, str], Any], Bundle]:
    """A configuration whose log tells of the system, what each request told, and the bundle."""
    folder = tmp_path_factory.mktemp("told")
    events = events_of(folder / "log", **SMALL)
    systems = by_request(events, [*SYSTEMS, None, "rare-{}"])
    systems = [word and word.format(place) for place, word in enumerate(systems)]
    ages = by_request(events, [None, 18, 18.5, *range(30, 70)], 1)
    lists = [None, ["tea"], ["wine", "tea", "tea"], ["soap", "ham", "tea", "egg"], ["x", "tea"]]
    interests = by_request(events, lists, 2)
    columns = {"os": pa.array(systems, pa.string()), "age": pa.array(ages), "interests": pa.array(interests)}
    sample = write_told_log(folder / "log", columns, **SMALL)
    config = told_config(folder, sample, FEATURES)
    prepare_told(config)
    train(config)
    asked: dict[tuple[str, str], dict[str, Any]] = {}
    pairs = zip(events["user_id"].to_pylist(), events["request_id"].to_pylist(), strict=True)
    for pair, system, age, words in zip(pairs, systems, ages, interests, strict=True):
        told = asked.setdefault(pair, {"age": age, "interests": words, "country": "de"})
        told["os"] = told.get("os") or system
    return config, asked, load_bundle(export(config))


def requests_of(config: Config) -> list[Request]:
    prepared = PreparedLog.open(Path(config.work_dir) / "prepared", verify=False)
    sequences = [sequence for shard in prepared.sequences() for sequence in read_sequences(shard)]
    return [
        request
        for split in ("train", "validation", "test")
        for sequence in sequences
        for request in requests_in(sequence, split)
    ]


def query_of(config: Config, request: Request, context: dict[str, Any]) -> Query:
    told = context_model(config.features).model_validate_json(json.dumps(context)).told()
    return Query(request.sequence.user_id, None, request.scene, 5, request.now_ms, Blocked(), context=told)


def history_of(sequence: UserSequence) -> Any:
    columns = (sequence.item_H, sequence.timestamp_H, sequence.action_H, sequence.kind_H, sequence.value_H)
    return user_history(zip(*(column.tolist() for column in columns), strict=True))


def test_serving_encodes_what_the_log_told(told: tuple[Config, dict[tuple[str, str], Any], Bundle]) -> None:
    config, asked, bundle = told
    requests = requests_of(config)
    recommender = Recommender.of(bundle, include_paused=True)
    offline = recommender.contexts(requests)
    served = ContextBuilder(recommender.catalogue, recommender.spec, told=bundle.told)
    queries = [query_of(config, request, asked[(request.sequence.user_id, request.request_id)]) for request in requests]
    histories = [history_of(request.sequence.before(request.now_ms)) for request in requests]
    online = served.build(queries, histories, served.told(queries))
    assert len(requests) > 100
    for name in ("static_BF", "code_BST", "feature_BSC", "mask_BS"):
        np.testing.assert_array_equal(getattr(offline, name).numpy(), getattr(online, name).numpy(), err_msg=name)
    codes = offline.static_BF[:, 9].numpy()
    assert set(codes.tolist()) == set(range(2 + len(SYSTEMS)))  # missing, unknown, and a code for each frequent word


def test_rows_of_training_hold_the_same_codes(told: tuple[Config, dict[tuple[str, str], Any], Bundle]) -> None:
    config, _, bundle = told
    store = build_rows(config, use_ray=False)
    row_N = store.format.from_table(store.files.take(np.arange(store.files.rows)))
    trained = [request for request in requests_of(config) if request.sequence.split_H[request.target_positions[0]] == 0]
    expected = Recommender.of(bundle, include_paused=True).contexts(trained)
    assert sorted(map(tuple, row_N["static_F"].tolist())) == sorted(map(tuple, expected.static_BF.tolist()))
    assert bundle.model_config.told["os"] == (2 + len(SYSTEMS), 1) and bundle.model_config.told["interests"][1] == 3
    assert len(row_N["static_F"][0]) == 5 + 1 + 1 + 3


def test_the_vocabulary_is_of_the_training_split(told: tuple[Config, dict[tuple[str, str], Any], Bundle]) -> None:
    config, _, bundle = told
    assert bundle.told is not None
    feature = bundle.told.features[2]
    assert sorted(feature.words or ()) == sorted(SYSTEMS)
    prepared = PreparedLog.open(Path(config.work_dir) / "prepared")
    assert prepared.told() == bundle.told
    judged = judged_requests(prepared, "test", None)
    assert {len(request.told) for request in judged} == {5}


def test_other_features_than_were_prepared_are_refused(
    told: tuple[Config, dict[tuple[str, str], Any], Bundle],
) -> None:
    config = told[0].model_copy(update={"features": {}})
    with pytest.raises(UserError, match="was prepared for a model that is told age, interests, os"):
        build_rows(config, use_ray=False)


def test_the_decoder_reads_lists_as_the_model_was_trained(
    told: tuple[Config, dict[tuple[str, str], Any], Bundle],
) -> None:
    config, _, bundle = told
    recommender = Recommender.of(bundle, include_paused=True)
    model = recommender.model
    assert isinstance(model, LazyAR)
    with torch.no_grad():
        context = recommender.contexts(requests_of(config)[:40])
        trained, served = model.encode(context), reader_of(model)(context, True)
        torch.testing.assert_close(served.key_BLGSd, trained.key_BLGSd, atol=1e-5, rtol=1e-4)
        assert (context.static_BF[:, 8] == 0).any() and (context.static_BF[:, 8] > 0).any()
        table = model.context.static_embedding.weight
        plain = model.context._static(context)
        rows, others = context.static_BF + torch.tensor(model.context.spec.static_offsets), context.static_BF[:, 7:9]
        expected, first = table[rows[:, [*range(7), 9]]].sum(1), model.context.spec.static_offsets[6]
        expected += (table[first + others] * (others > 0)[..., None]).sum(1)
        torch.testing.assert_close(plain[:, 0], expected)


def test_features_know_how_often_training_requests_lacked_them(
    told: tuple[Config, dict[tuple[str, str], Any], Bundle],
) -> None:
    config, _, bundle = told
    assert bundle.told is not None
    codes: dict[tuple[str, str], Any] = {}
    for sequence in {id(request.sequence): request.sequence for request in requests_of(config)}.values():
        assert sequence.told_HF is not None
        for name, split, row in zip(sequence.request_H, sequence.split_H, sequence.told_HF, strict=True):
            if split == 0:
                codes.setdefault((sequence.user_id, str(name)), row)
    code_KF = np.array(list(codes.values()))
    for feature, column in zip(bundle.told.features, (slice(0, 1), slice(1, 4), slice(4, 5)), strict=True):
        assert feature.missing_share == pytest.approx((code_KF[:, column][:, 0] == 0).mean(), abs=1e-6)
        assert feature.unknown_share == pytest.approx((code_KF[:, column] == 1).any(axis=1).mean(), abs=1e-6)
    assert bundle.told.features[2].unknown_share and bundle.told.features[0].missing_share
    plain = [replace(feature, missing_share=None, unknown_share=None) for feature in bundle.told.features]
    assert FeatureEncoder(tuple(plain)).fingerprint == bundle.told.fingerprint
