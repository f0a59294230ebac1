"""Verbs of operators: what is wrong with this machine, what runs and what was last made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adbeam.cli.options import AsJson, WorkDir


def doctor(
    work_dir: WorkDir = Path("runs/default"),
    bundle: Annotated[Path | None, typer.Option(help="Bundle to verify; default: the one in force")] = None,
    as_json: AsJson = False,
) -> None:
    """Look for what would stop adbeam from working here; exit 1 when there is such a fault."""
    from adbeam.operations.doctor import examine, lines, to_json

    findings = examine(work_dir=work_dir, bundle=bundle)
    typer.echo(to_json(findings) if as_json else "\n".join(lines(findings)))
    if any(finding.verdict == "fault" for finding in findings):
        raise typer.Exit(1)


def status(
    work_dir: WorkDir = Path("runs/default"),
    address: Annotated[str | None, typer.Option("--address", "-a", help="Dashboard, http://HEAD:8265")] = None,
    metrics: Annotated[
        list[str] | None, typer.Option(help="Metrics endpoint of a node, for the rungs of its replicas (repeatable)")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the cluster's token")] = None,
    as_json: AsJson = False,
) -> None:
    """Applications and replicas, rung, bundle, and what each step last made."""
    from adbeam.jobs.submit import use_token_file
    from adbeam.operations.status import lines, read_status

    use_token_file(token_file)
    found = read_status(work_dir=work_dir, address=address, metrics_urls=metrics)
    typer.echo(found.to_json() if as_json else "\n".join(lines(found)))
    if found.unreachable and address:
        raise typer.Exit(1)
