"""`adbeam jobs`: send steps to a Ray cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

jobs_app = typer.Typer(help="Run steps on a Ray cluster.", no_args_is_help=True, rich_markup_mode=None)

Address = Annotated[
    str | None,
    typer.Option("--address", "-a", help="The cluster's dashboard, http://HEAD:8265; default RAY_API_SERVER_ADDRESS"),
]
TokenFile = Annotated[Path | None, typer.Option(help="File with the cluster's token; default ~/.ray/auth_token")]


@jobs_app.command()
def submit(
    step: Annotated[str, typer.Argument(help="prepare, tokenize, train, evaluate, export, ...")],
    address: Address = None,
    config: Annotated[str | None, typer.Option("--config", "-c", help="YAML in the working folder")] = None,
    override: Annotated[list[str] | None, typer.Option("--set", "-s", help="Override one key (repeatable)")] = None,
    working_dir: Annotated[Path, typer.Option(help="Folder sent to the cluster")] = Path("."),
    exclude: Annotated[list[str] | None, typer.Option(help="Pattern left out of the upload (repeatable)")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=value for the job (repeatable)")] = None,
    token_file: TokenFile = None,
    image_library: Annotated[
        bool, typer.Option("--image-library", help="Run the adbeam of the cluster's image, do not send this one")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the job's id and return")] = False,
) -> None:
    """Send a step to a cluster, follow its log, and exit as it exits."""
    from adbeam.errors import UserError
    from adbeam.jobs import submit as jobs
    from adbeam.jobs.environment import parse_env, runtime_env
    from adbeam.jobs.steps import step_named

    chosen = step_named(step)
    named = config or chosen.config
    if not (working_dir / named).is_file():
        raise UserError("no such file in the working folder", field="--config", value=named, remedy="check both paths")
    jobs.use_token_file(token_file)  # before anything loads Ray, which reads it once
    environment = runtime_env(
        working_dir, env=parse_env(env or []), excludes=tuple(exclude or ()), ship_library=not image_library
    )
    client = jobs.connect(address)
    entrypoint = chosen.entrypoint(named, tuple(override or ()))
    job = jobs.submit(client, entrypoint, environment, metadata={"step": step})
    typer.echo(job)
    if no_wait:
        return
    code = jobs.follow(client, job, lambda text: typer.echo(text, nl=False))
    typer.echo(f"{job} ended with exit code {code}", err=code != 0)
    raise typer.Exit(code)


@jobs_app.command()
def logs(
    job: Annotated[str, typer.Argument(help="Id that submit printed")],
    address: Address = None,
    token_file: TokenFile = None,
) -> None:
    """Follow the log of a job that runs, or print that of one that ran; exits as the job exits."""
    from adbeam.jobs import submit as jobs

    jobs.use_token_file(token_file)
    client = jobs.connect(address)
    jobs.refuse_unknown(client, job)
    raise typer.Exit(jobs.follow(client, job, lambda text: typer.echo(text, nl=False)))


@jobs_app.command()
def stop(
    job: Annotated[str, typer.Argument(help="Id that submit printed")],
    address: Address = None,
    token_file: TokenFile = None,
) -> None:
    """Ask a job to end."""
    from adbeam.jobs import submit as jobs

    jobs.use_token_file(token_file)
    client = jobs.connect(address)
    jobs.refuse_unknown(client, job)
    typer.echo("stopping" if client.stop_job(job) else "it had ended")


@jobs_app.command(name="list")
def list_jobs(address: Address = None, token_file: TokenFile = None) -> None:
    """The cluster's jobs, newest first."""
    from adbeam.jobs import submit as jobs

    jobs.use_token_file(token_file)
    client = jobs.connect(address)
    for job in sorted(client.list_jobs(), key=lambda job: -(job.start_time or 0)):
        step = (job.metadata or {}).get("step", os.path.basename(job.entrypoint.split()[0]))
        typer.echo(f"{job.submission_id}\t{job.status.value}\t{step}")
