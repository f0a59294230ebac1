"""Requests made from the OpenAPI document: what it allows is answered as it says, what it does not is refused."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks
from tests.support.echo_service import EchoService

from adbeam.serving.http.app import build_api

API = build_api(EchoService(fallback={"size": 0}, limits={"users_max": 20}))
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", API)
EXAMPLES = 60


@SCHEMA.include(path=["/v1/ads", "/v1/openrtb", "/v1/events", "/v1/users", "/v1/users/{user_id}"]).parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_every_operation_keeps_to_its_document(case: Any) -> None:
    answer = case.call()
    is_tolerant = case.operation.path == "/v1/openrtb"
    refusal = [] if is_tolerant else [checks.negative_data_rejection]
    case.validate_response(answer, checks=[checks.not_a_server_error, *refusal])
    assert not (is_tolerant and answer.status_code == 422)
    documented = {*case.operation.definition.raw["responses"], "405"}  # it tries other methods too
    assert str(answer.status_code) in documented or (case.method, answer.status_code) == ("OPTIONS", 204)
