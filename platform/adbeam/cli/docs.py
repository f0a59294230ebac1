"""`adbeam docs`: the pages that are written from the code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

docs_app = typer.Typer(help="Pages of docs/ written from the code.", no_args_is_help=True, rich_markup_mode=None)


@docs_app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder of the pages")] = Path("docs"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a file is out of date")] = False,
) -> None:
    """Write the configuration page, the API page and the OpenAPI document."""
    from adbeam.cluster.render import stale, write
    from adbeam.reference.build import doc_files

    files = doc_files()
    if not check:
        typer.echo("\n".join(str(path) for path in write(files, out)) or "all pages are up to date")
    elif behind := stale(files, out):
        typer.echo(f"out of date in {out}: {', '.join(behind)}; run adbeam docs build", err=True)
        raise typer.Exit(1)
