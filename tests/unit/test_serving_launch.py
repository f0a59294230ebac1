"""What starting an endpoint says when it cannot."""

from __future__ import annotations

from adbeam.serving.launch import _reason


def test_a_deployment_that_fails_is_explained_by_what_the_replica_said() -> None:
    quoted = (
        "failed 3 times\n  File ...\nadbeam.errors.UserError: bundle: model.safetensors was changed\n\nUserError: again"
    )
    assert _reason("Failed to update", "fine", quoted) == "again"
    assert _reason(" Failed to update ", "OOM") == "Failed to update"
