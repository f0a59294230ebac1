"""What the model is told: a logged request encoded offline is the same request encoded by serving, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
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
from adbeam.errors import UserError
from adbeam.evaluation.evaluate import judged_requests
from adbeam.export.export_bundle import export
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import Request, UserSequence, read_sequences, requests_in
from adbeam.serving.engine.contexts import ContextBuilder
from adbeam.serving.engine.request import Query
from adbeam.serving.http.context import context_model
from adbeam.serving.stores.store import user_history
from adbeam.training.data.build_rows import build_rows
from adbeam.training.trainer import train

SMALL = {"users": 16, "items": 40, "visits": 10}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[tuple[str, str], Any], Bundle]:
    """A configuration whose log tells of the system, what each request told, and the bundle."""
    folder = tmp_path_factory.mktemp("told")
    events = events_of(folder / "log", **SMALL)
    systems = by_request(events, [*SYSTEMS, None, "rare-{}"])
    systems = [word and word.format(place) for place, word in enumerate(systems)]
    sample = write_told_log(folder / "log", {"os": pa.array(systems, pa.string())}, **SMALL)
    config = told_config(folder, sample, OS)
    prepare_told(config)
    train(config)
    asked: dict[tuple[str, str], Any] = {}
    pairs = zip(events["user_id"].to_pylist(), events["request_id"].to_pylist(), strict=True)
    for pair, system in zip(pairs, systems, strict=True):
        if asked.get(pair) is None:
            asked[pair] = system
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
    told = context_model(config.features).model_validate_json(_json(context)).told()
    return Query(request.sequence.user_id, None, request.scene, 5, request.now_ms, Blocked(), context=told)


def _json(context: dict[str, Any]) -> str:
    import json

    return json.dumps(context)


def history_of(sequence: UserSequence) -> Any:
    columns = (sequence.item_H, sequence.timestamp_H, sequence.action_H, sequence.kind_H, sequence.value_H)
    return user_history(zip(*(column.tolist() for column in columns), strict=True))


def test_serving_encodes_what_the_log_told(told: tuple[Config, dict[tuple[str, str], Any], Bundle]) -> None:
    config, asked, bundle = told
    requests = requests_of(config)
    recommender = Recommender.of(bundle, include_paused=True)
    offline = recommender.contexts(requests)
    served = ContextBuilder(recommender.catalogue, recommender.spec, told=bundle.told)
    queries = [
        query_of(config, request, {"os": asked[(request.sequence.user_id, request.request_id)]}) for request in requests
    ]
    online = served.build(queries, [history_of(request.sequence.before(request.now_ms)) for request in requests])
    assert len(requests) > 100
    for name in ("static_BF", "code_BST", "feature_BSC", "mask_BS"):
        np.testing.assert_array_equal(getattr(offline, name).numpy(), getattr(online, name).numpy(), err_msg=name)
    codes = offline.static_BF[:, 5].numpy()
    assert set(codes.tolist()) == set(range(2 + len(SYSTEMS)))  # missing, unknown, and a code for each frequent word


def test_rows_of_training_hold_the_same_codes(told: tuple[Config, dict[tuple[str, str], Any], Bundle]) -> None:
    config, _, bundle = told
    store = build_rows(config, use_ray=False)
    row_N = store.format.from_table(store.files.take(np.arange(store.files.rows)))
    trained = [request for request in requests_of(config) if request.sequence.split_H[request.target_positions[0]] == 0]
    expected = Recommender.of(bundle, include_paused=True).contexts(trained)
    assert sorted(map(tuple, row_N["static_F"].tolist())) == sorted(map(tuple, expected.static_BF.tolist()))
    assert bundle.model_config.told == {"os": (2 + len(SYSTEMS), 1)}


def test_the_vocabulary_is_of_the_training_split(told: tuple[Config, dict[tuple[str, str], Any], Bundle]) -> None:
    config, _, bundle = told
    assert bundle.told is not None
    (feature,) = bundle.told.features
    assert sorted(feature.words or ()) == sorted(SYSTEMS)
    prepared = PreparedLog.open(Path(config.work_dir) / "prepared")
    assert prepared.told() == bundle.told
    judged = judged_requests(prepared, "test", None)
    assert {len(request.told) for request in judged} == {1}


def test_other_features_than_were_prepared_are_refused(
    told: tuple[Config, dict[tuple[str, str], Any], Bundle],
) -> None:
    config = told[0].model_copy(update={"features": {}})
    with pytest.raises(UserError, match="was prepared for a model that is told os"):
        build_rows(config, use_ray=False)
