"""Verbs around an endpoint: serve one, ask it, load it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adbeam.cli.options import Overrides, Port, Token, parse_overrides, read_json


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="Serve application YAML")] = Path("serving/ads.yaml"),
    work_dir: Annotated[
        Path | None, typer.Option(help="work_dir of the jobs: its bundles, its histories, its own store and event log")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder, or a folder with a CURRENT pointer")] = None,
    override: Overrides = None,
    port: Port = 8000,
) -> None:
    """Serve ads over HTTP until interrupted."""
    from adbeam.serving.deploy.local import of_work_dir, serve_until_interrupted

    chosen = of_work_dir(work_dir) if work_dir is not None else {}
    if bundle is not None:
        chosen["bundle"] = str(bundle)
    serve_until_interrupted(config, {**chosen, **parse_overrides(override)}, port)


def request(
    user: Annotated[str, typer.Option(help="User id; an unknown one gets the cold-start answer")],
    scene: Annotated[str | None, typer.Option(help="Placement the ads are for")] = None,
    count: Annotated[int, typer.Option(help="How many ads")] = 5,
    context: Annotated[str | None, typer.Option(help='What the request tells, as JSON: {"country": "de"}')] = None,
    profile: Annotated[
        str | None, typer.Option(help='What is known of the user, as JSON: {"age": 31}; wins over what is kept')
    ] = None,
    url: Annotated[str, typer.Option(help="Where the endpoint is")] = "http://127.0.0.1:8000",
    token: Token = None,
) -> None:
    """Ask a running endpoint for ads and print them."""
    from adbeam.serving.client import print_ads, request_ads

    body: dict[str, Any] = {"user_id": user, "count": count}
    if scene:
        body["scene"] = scene
    if context is not None:
        body["context"] = read_json(context, "--context")
    if profile is not None:
        body["user"] = read_json(profile, "--profile")
    print_ads(request_ads(url, body, token=token))


def loadtest(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML of the load test")] = None,
    override: Overrides = None,
    work_dir: Annotated[Path | None, typer.Option(help="work_dir of the jobs: whose users ask")] = None,
    url: Annotated[str | None, typer.Option(help="Endpoint, default http://127.0.0.1:8000/v1/ads")] = None,
    allow_host: Annotated[str | None, typer.Option(help="Host that is not this machine and may be loaded")] = None,
    report: Annotated[Path | None, typer.Option(help="Where the report goes, .png or .html")] = None,
    token: Token = None,
) -> None:
    """Send open-loop load (a step, ramp or recorded trace) to an endpoint and report what came of it."""
    from adbeam.loadtest.plan import load_test, none_in_time, read_load_test, show
    from adbeam.workdir import WorkDir

    given = {"target.url": url, "target.allow_host": allow_host, "target.token": token, "report": report}
    if work_dir is not None:
        given["users"] = WorkDir(work_dir).sequences
    overrides = {name: value for name, value in given.items() if value is not None}
    chosen = read_load_test(config, {**overrides, **parse_overrides(override)})
    run, figures = load_test(chosen)
    show(figures)
    if told := none_in_time(run):
        typer.echo(told)
    typer.echo(f"wrote {chosen.report}")
