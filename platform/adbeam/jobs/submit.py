"""Send a step to a Ray cluster, follow its log, and end as it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adbeam.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

SUCCEEDED, FAILED, STOPPED = 0, 1, 130
"""Exit codes when the cluster names none of its own."""

LOG_ATTEMPTS = 5


def connect(address: str | None) -> JobSubmissionClient:
    """A client of the cluster's job server.

    Raises UserError when it is unreachable, when it wants a token and has got none or a wrong one, or is no Ray.
    """
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    # Ray lets these win over an address that was named on the command line.
    if address:
        os.environ.pop("RAY_API_SERVER_ADDRESS", None)
        os.environ.pop("RAY_ADDRESS", None)
    for chatty in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{chatty}").setLevel(logging.WARNING)
    shown = address or os.environ.get("RAY_API_SERVER_ADDRESS") or "the default address, http://127.0.0.1:8265"
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise _token_problem(shown, str(error)) from None
    except (requests.exceptions.RequestException, ConnectionError):
        raise UserError(
            "cannot reach the job server",
            field="--address",
            value=shown,
            remedy="name the dashboard, for example http://HEAD:8265 (Kubernetes: kubectl port-forward svc/HEAD 8265)",
        ) from None
    except (RuntimeError, ValueError) as error:
        raise UserError(f"no Ray job server: {error}", field="--address", value=shown) from None


def submit(
    client: JobSubmissionClient,
    entrypoint: str,
    runtime_env: dict[str, Any],
    *,
    num_cpus: float = 0,
    num_gpus: float = 0,
    metadata: dict[str, str] | None = None,
) -> str:
    """Start a job; returns its id. Raises UserError when the cluster refuses it; nothing runs then."""
    try:
        return client.submit_job(
            entrypoint=entrypoint,
            runtime_env=runtime_env,
            entrypoint_num_cpus=num_cpus or None,
            entrypoint_num_gpus=num_gpus or None,
            metadata=metadata,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the cluster refused the job: {error}") from None


def follow(client: JobSubmissionClient, job: str, write: Callable[[str], None]) -> int:
    """Write the job's log as it grows until the job ends; returns its exit code.

    A broken connection is taken up again; what was written before is not written twice.
    """
    written = 0

    async def tail() -> None:
        nonlocal written
        passed = 0
        async for text in client.tail_job_logs(job):
            # Ray sends the whole log anew after each reconnection.
            fresh = text[max(0, written - passed) :]
            passed += len(text)
            if fresh:
                write(fresh)
                written += len(fresh)

    for attempt in range(LOG_ATTEMPTS):
        try:
            asyncio.run(tail())
            break
        except (RuntimeError, OSError):
            if client.get_job_status(job).is_terminal():
                break
            time.sleep(2**attempt)
    return exit_code(client, job)


def exit_code(client: JobSubmissionClient, job: str) -> int:
    """Wait until the job has ended; returns the exit code of its command, or 1 when it never ran, 130 when stopped."""
    while not (status := client.get_job_status(job)).is_terminal():
        time.sleep(0.5)
    code = client.get_job_info(job).driver_exit_code
    if status.value == "SUCCEEDED":
        return SUCCEEDED
    if status.value == "STOPPED":
        return STOPPED
    return code if code else FAILED


def refuse_unknown(client: JobSubmissionClient, job: str) -> None:
    """Raise UserError when the cluster knows no such job."""
    try:
        client.get_job_info(job)
    except RuntimeError:
        raise UserError("the cluster knows no such job", field="JOB", value=job, remedy="adbeam jobs list") from None


def use_token_file(path: Path | None) -> None:
    """Make Ray take its token from `path`; raises UserError when there is none."""
    if path is None:
        return
    if not path.is_file() or not path.read_text(encoding="utf-8").strip():
        raise UserError("no token in this file", field="--token-file", value=str(path), remedy="name the token's file")
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path.resolve())
    os.environ.pop("RAY_AUTH_TOKEN", None)


def _token_problem(address: str, reason: str) -> UserError:
    missing = "401" in reason or "issing" in reason or "required" in reason
    return UserError(
        "the cluster wants a token and got none" if missing else "the cluster refused the token",
        field="--token-file",
        value=address,
        remedy="--token-file PATH, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN, with RAY_AUTH_MODE=token",
    )
