"""`adbeam dashboards`: build, publish and feed them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

dashboards_app = typer.Typer(help="Grafana dashboards and alert rules.", no_args_is_help=True, rich_markup_mode=None)


@dashboards_app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder of the dashboards")] = Path("dashboards"),
    alerts: Annotated[Path, typer.Option(help="Folder of the alert rules")] = Path("cluster"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a file is out of date")] = False,
) -> None:
    """Write the dashboards' JSON and the alert rules."""
    from adbeam.cluster.render import stale, write
    from adbeam.dashboards.build import alert_files, dashboard_files

    for folder, files in ((out, dashboard_files()), (alerts, alert_files())):
        if not check:
            for path in write(files, folder):
                typer.echo(path)
        elif behind := stale(files, folder):
            typer.echo(f"out of date in {folder}: {', '.join(behind)}; run adbeam dashboards build", err=True)
            raise typer.Exit(1)


@dashboards_app.command()
def push(
    url: Annotated[str, typer.Option(envvar="GRAFANA_URL", help="Address of Grafana")] = "http://127.0.0.1:3000",
    token: Annotated[str | None, typer.Option(envvar="GRAFANA_TOKEN", help="Service account token")] = None,
    prometheus_url: Annotated[
        str | None, typer.Option(help="Also keep a data source that reads this Prometheus, as Grafana reaches it")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show every changed line")] = False,
) -> None:
    """Publish folder, data source and dashboards; what is as it should be is left alone."""
    from adbeam.dashboards.build import DASHBOARDS
    from adbeam.dashboards.publish import apply, connect, plan

    grafana = connect(url, token)
    changes = plan(grafana, [page.json() for page in DASHBOARDS], prometheus_url)
    for change in changes:
        typer.echo(f"{change.action} {change.kind} {change.name}")
        if diff and change.diff:
            typer.echo(change.diff)
    if not changes:
        typer.echo("nothing to change")
    elif not dry_run:
        apply(grafana, changes)
        typer.echo(f"made {len(changes)} changes")


@dashboards_app.command()
def draw(
    name: Annotated[str, typer.Argument(help="adbeam-serving, adbeam-training, adbeam-catalogue or adbeam-online")],
    prometheus_url: Annotated[str, typer.Option(help="Prometheus")] = "http://127.0.0.1:9090",
    minutes: Annotated[float, typer.Option(min=0.1, help="How far back")] = 30.0,
    out: Annotated[Path | None, typer.Option(help="PNG; default NAME.png")] = None,
) -> None:
    """Draw a dashboard to a PNG from its own queries, without Grafana."""
    import time

    from adbeam.dashboards.build import DASHBOARDS
    from adbeam.dashboards.plots import draw as draw_dashboard
    from adbeam.dashboards.prometheus import Prometheus
    from adbeam.errors import UserError

    pages = {page.uid: page for page in DASHBOARDS}
    if name not in pages:
        raise UserError("no such dashboard", field="NAME", value=name, remedy=f"one of {', '.join(pages)}")
    target, now = out or Path(f"{name}.png"), time.time()
    empty = draw_dashboard(pages[name], Prometheus(prometheus_url), now - 60 * minutes, now, target)
    typer.echo(target)
    for title in empty:
        typer.echo(f"no data: {title}", err=True)


@dashboards_app.command()
def exporter(
    work_dir: Annotated[Path, typer.Option(help="work_dir of the jobs")] = Path("runs/default"),
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 9108,
) -> None:
    """Serve the results of the steps (log, tokens, bundle, evaluation) to Prometheus, until interrupted."""
    from adbeam.dashboards.exporter import serve

    server = serve(work_dir, host, port)
    typer.echo(f"http://{host}:{server.server_port}/metrics")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
