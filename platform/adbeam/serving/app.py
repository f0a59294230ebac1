"""The Serve application: `import_path: adbeam.serving.app:build` in a Serve config file."""

from __future__ import annotations

from typing import Any

from ray import serve

from adbeam.serving.deploy.args import validated_args
from adbeam.serving.replica import Recommender

MAX_ONGOING_REQUESTS = 100_000
"""Serve's own bound stays out of the way: a replica has its own (admission.max_in_flight, the policy's max_queue)."""

Deployment = serve.deployment(name="Recommender", max_ongoing_requests=MAX_ONGOING_REQUESTS)(
    serve.ingress()(Recommender)  # no app is given: Recommender makes it on the replica, around its service
)


def build(args: dict[str, Any]) -> serve.Application:
    """The application for `args` (adbeam.serving.config.ServingConfig); raises UserError on anything amiss."""
    return Deployment.bind(validated_args(args))
