"""`adbeam cluster`: a local cluster, and the manifests of real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

cluster_app = typer.Typer(
    help="A local Ray cluster, Kubernetes manifests, checks of YAML.", no_args_is_help=True, rich_markup_mode=None
)

RunFolder = Annotated[Path, typer.Option(help="Where process ids, token and logs are kept")]
Settings = Annotated[Path, typer.Option("--settings", help="Settings of the manifests")]


@cluster_app.command()
def up(
    nodes: Annotated[int, typer.Option(min=1, max=12, help="Nodes, one of them the head")] = 3,
    cpus: Annotated[int, typer.Option(min=1, help="Logical CPUs of each worker node")] = 4,
    port_base: Annotated[int, typer.Option(min=1024, max=65000, help="First of 8 ports a node")] = 18300,
    object_store_mib: Annotated[int, typer.Option(min=80, help="Object store of each node")] = 256,
    folder: RunFolder = Path("runs/cluster"),
) -> None:
    """Start a Ray cluster of several nodes on 127.0.0.1, with token authentication."""
    from adbeam.cluster.local import up as start

    cluster = start(folder, nodes=nodes, cpus=cpus, port_base=port_base, object_store_bytes=object_store_mib << 20)
    typer.echo(f"{len(cluster.nodes)} nodes run; dashboard {cluster.dashboard}. To use them in this shell:")
    for name, value in cluster.environment.items():
        typer.echo(f"export {name}={value}")


@cluster_app.command()
def down(folder: RunFolder = Path("runs/cluster")) -> None:
    """End the local cluster: the processes that `up` started, and no others."""
    from adbeam.cluster.local import load, stop

    cluster = load(folder)
    stop(cluster)
    typer.echo(f"ended {len(cluster.nodes)} nodes")


@cluster_app.command()
def nodes(folder: RunFolder = Path("runs/cluster")) -> None:
    """Which nodes of the local cluster live."""
    from adbeam.cluster.local import load, running

    cluster = load(folder)
    alive = running(cluster)
    typer.echo(json.dumps({node.name: node.name in alive for node in cluster.nodes}))


@cluster_app.command()
def env(folder: RunFolder = Path("runs/cluster")) -> None:
    """Print the environment of the local cluster: eval "$(adbeam cluster env)"."""
    from adbeam.cluster.local import load

    for name, value in load(folder).environment.items():
        typer.echo(f"export {name}={value}")


@cluster_app.command()
def kill(name: Annotated[str, typer.Argument(help="worker-1, ...")], folder: RunFolder = Path("runs/cluster")) -> None:
    """End one node of the local cluster without warning, as a lost machine would."""
    from adbeam.cluster.local import kill_node, load, running
    from adbeam.errors import UserError

    cluster = load(folder)
    if name not in running(cluster):
        raise UserError("no such node", field="NAME", value=name, remedy=f"one of {', '.join(running(cluster))}")
    kill_node(cluster, name)
    typer.echo(f"ended {name}")


@cluster_app.command()
def render(
    settings: Settings = Path("cluster/settings.yaml"),
    out: Annotated[Path, typer.Option(help="Folder of the manifests")] = Path("cluster"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a file is out of date")] = False,
) -> None:
    """Write the RayCluster, RayJob and RayService manifests from one settings file."""
    from adbeam.cluster.render import load, stale, write
    from adbeam.cluster.render import render as rendered

    files = rendered(*load(settings))
    if not check:
        written = write(files, out)
        typer.echo("\n".join(str(path) for path in written) or "all manifests are up to date")
        return
    behind = stale(files, out)
    if behind:
        typer.echo(f"out of date: {', '.join(behind)}; run adbeam cluster render", err=True)
        raise typer.Exit(1)


@cluster_app.command(name="check")
def check_files(files: Annotated[list[Path], typer.Argument(help="Serve, RayService or Ray launcher YAML")]) -> None:
    """Check YAML before it is applied, more strictly than Ray does."""
    from adbeam.cluster.checks import check_file

    for path in files:
        typer.echo(f"{path}: {check_file(path)}, valid")
