"""Starting and stopping an endpoint on this machine: what `adbeam serve` and the quickstart call.

The same as `serve run CONFIG` with serving/serve.env in the environment, but it waits until requests are answered and
stops only what it started.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adbeam.errors import UserError
from adbeam.serving.deploy.environment import LOCAL_SWITCHES, SWITCHES
from adbeam.serving.deploy.ports import PORTS, host_switches, refuse_taken
from adbeam.signals import signal_event
from adbeam.workdir import WorkDir

logger = logging.getLogger(__name__)

READY_SECONDS = 600.0
"""A machine that others keep busy may need minutes for what takes seconds; a deployment that failed is told at once."""
TELL_SECONDS = 30.0
POLL_SECONDS = 0.2
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Endpoint:
    """A running endpoint. `stop` is safe to call twice."""

    url: str
    application: str
    owns_ray: bool
    config: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False

    def reconfigure(self, **options: Any) -> None:
        """Put other `user_config` options in force (`policy`, `bundle`) without a restart, and wait until they are.

        Raises UserError when the deployment does not become healthy with them.
        """
        for deployment in self.config["applications"][0]["deployments"]:
            deployment["user_config"] = options
        _deploy(self.config)
        _wait_until_ready(self, time.monotonic() + READY_SECONDS)

    def stop(self) -> None:
        """Take the application down, and Ray with it where `start` brought Ray up."""
        if not self.stopped:
            self.stopped = True
            stop(shut_ray_down=self.owns_ray)


def start(
    config: str | Path,
    overrides: Mapping[str, Any] | None = None,
    port: int = 8000,
    *,
    ready_seconds: float = READY_SECONDS,
    ray_options: Mapping[str, Any] | None = None,
) -> Endpoint:
    """Deploy a Serve config file on 127.0.0.1:`port` and wait until it answers.

    Interrupted meanwhile (INTERRUPTS), it stops what it started and raises KeyboardInterrupt.

    `overrides` go into the application's args ({"bundle": ..., "store.path": ...}). Uses the Ray that runs in this
    process, else starts one with `ray_options`. Raises UserError when the file, the bundle or the deployment is wrong.
    """
    for name, value in {**SWITCHES, **LOCAL_SWITCHES}.items():
        os.environ.setdefault(name, value)
    import ray

    from adbeam.serving.deploy.args import validated_args, validated_options
    from adbeam.serving.deploy.config_file import read_serve_config

    values = read_serve_config(config, overrides=overrides, port=port)
    application = values["applications"][0]
    application["args"] = validated_args(application["args"])
    for deployment in application.get("deployments", ()):  # a replica would refuse it at every try to start
        validated_options(deployment.get("user_config"), application["args"]["policy"])
    owns_ray = not ray.is_initialized()
    if owns_ray:
        host = values["http_options"]["host"]
        refuse_taken(port, "--port", host)
        os.environ.update(host_switches(os.environ, host))
        ray.init(**{"include_dashboard": False, "log_to_driver": False, **(ray_options or {})})
    endpoint = Endpoint(f"http://127.0.0.1:{port}", application.get("name", "default"), owns_ray, values)
    # A Serve that is cut off while it starts leaves its HAProxy behind: what interrupts waits until it can be stopped.
    with signal_event(*INTERRUPTS) as interrupted:
        try:
            _deploy(values)
            _wait_until_ready(endpoint, time.monotonic() + ready_seconds, interrupted)
        except BaseException:
            endpoint.stop()
            raise
    return endpoint


def stop(*, shut_ray_down: bool = True) -> None:
    """Shut Serve down, and Ray if wanted."""
    import ray
    from ray import serve

    if not ray.is_initialized():
        return
    serve.shutdown()  # type: ignore[no-untyped-call]
    if shut_ray_down:
        ray.shutdown()


def of_work_dir(work_dir: Path) -> dict[str, Any]:
    """The args of an application that serves what the jobs of `work_dir` made, with its own store and event log."""
    layout = WorkDir(work_dir)
    return {
        "bundle": str(layout.bundles),
        "store.path": str(layout.histories),
        "store.prepared": str(layout.prepared) if layout.prepared.is_dir() else None,
        "event_log.folder": str(layout.events),
        "event_log.ledger": str(layout.ledger),
        "request_log.folder": str(layout.requests),
        "request_log.ledger": str(layout.ledger),
        "updates.path": str(layout.ad_updates),
    }


def serve_until_interrupted(
    config: str | Path, overrides: Mapping[str, Any] | None = None, port: int = 8000, **options: Any
) -> None:
    """Serve until SIGINT or SIGTERM; the arguments are those of `start`."""
    endpoint = start(config, overrides, port, **options)
    print(f"serving ads on {endpoint.url}/v1/ads; console: {endpoint.url}/console, documentation: {endpoint.url}/docs")
    print("Ctrl-C stops it", flush=True)
    with signal_event(*INTERRUPTS) as interrupted:
        interrupted.wait()
    endpoint.stop()


def _deploy(values: dict[str, Any]) -> None:
    """What `serve run CONFIG` does: Serve has no public function that takes a config file."""
    from ray.exceptions import RayError
    from ray.serve._private.api import serve_start
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(values)
    try:
        client = serve_start(
            http_options=HTTPOptions(**schema.http_options.model_dump(exclude_unset=True)),
            proxy_location=schema.proxy_location,
            global_logging_config=schema.logging_config,
        )
    except RayError as error:
        taken = ", ".join(f"{name} {os.environ[name]}" for name in PORTS if name in os.environ)
        remedy = (
            f"free port {schema.http_options.port} (--port) or those of the proxy ({taken or 'Serve chose them'}), "
            "or see the proxy's log in Ray's session folder"
        )
        raise UserError(f"Serve could not start: {error}", remedy=remedy) from None
    client.deploy_apps(schema, _blocking=False)


def _wait_until_ready(endpoint: Endpoint, until_s: float, interrupted: threading.Event | None = None) -> None:
    from ray import serve

    from adbeam.serving.client import call

    began_s, told_s, state = time.monotonic(), TELL_SECONDS, "not deployed"
    while (now_s := time.monotonic()) < until_s:
        if now_s - began_s > told_s:
            told_s += TELL_SECONDS
            logger.warning("the endpoint is not ready after %.0f s (%s); waiting on", now_s - began_s, state)
        if interrupted is not None and interrupted.is_set():
            raise KeyboardInterrupt
        status = serve.status().applications.get(endpoint.application)
        if status is not None and status.status == "DEPLOY_FAILED":
            messages = [deployment.message for deployment in status.deployments.values()]
            raise UserError(f"the application could not be deployed: {_reason(status.message, *messages)}")
        state = "not deployed" if status is None else str(status.status)
        if status is not None and status.status == "RUNNING":
            try:
                if call(endpoint.url, "GET", "/readyz", timeout_seconds=2.0)[0] == 200:
                    return
            except UserError:
                pass
        time.sleep(POLL_SECONDS)
    raise UserError(
        f"the endpoint did not become ready in time ({state})",
        remedy="see the replica's log in Ray's session folder; on a busy machine, end what else runs and try again",
    )


def _reason(*messages: str) -> str:
    """What adbeam itself said against it, where Serve's messages quote that; else what Serve says."""
    quoted = re.findall(r"UserError: (.+)", "\n".join(messages))
    return quoted[-1].strip() if quoted else messages[0].strip()
