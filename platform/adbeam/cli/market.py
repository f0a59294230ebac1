"""`adbeam market`: make a simulated market, and see what a bundle earns on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adbeam.cli.options import AsJson, Overrides, parse_overrides

market_app = typer.Typer(
    help="A simulated marketplace whose truth is known.", no_args_is_help=True, rich_markup_mode=None
)

MarketFolder = Annotated[Path, typer.Option("--work-dir", help="work_dir of the simulated market")]


@market_app.command()
def simulate(
    work_dir: MarketFolder = Path("runs/market"),
    override: Overrides = None,
    seed: Annotated[int, typer.Option(help="The same settings and seed give the same market", min=0)] = 0,
    size: Annotated[str, typer.Option(help="Size of the model that will learn it: its codebooks")] = "tiny",
    as_json: AsJson = False,
) -> None:
    """Write a simulated log, its catalogue and its semantic IDs: a work_dir for train, reward, export and so on.

    --set takes keys of the market, such as users=300 or days=14.
    """
    from adbeam.config import Config
    from adbeam.market.report import account_lines, as_text
    from adbeam.market.simulate import read_market
    from adbeam.market.simulate import simulate as run

    market = read_market(parse_overrides(override))
    codebooks = Config.parse({"size": size}, "--size").model.codebooks
    account = run(market, work_dir, seed=seed, size=size, codebooks=codebooks, tell=_tell)
    typer.echo(as_text(account) if as_json else "\n".join(account_lines(account)))


@market_app.command()
def play(
    work_dir: MarketFolder = Path("runs/market"),
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle folder, or one with a CURRENT pointer; default: that of the work_dir")
    ] = None,
    days: Annotated[int, typer.Option(help="Days after the log", min=1)] = 1,
    requests: Annotated[int, typer.Option(help="Requests a day", min=1)] = 500,
    order_by: Annotated[str, typer.Option(help="log_probability or expected_value")] = "log_probability",
    cascade: Annotated[bool, typer.Option("--cascade", help="Also two towers and the work_dir's reward model")] = False,
    as_json: AsJson = False,
) -> None:
    """What a bundle earns on the simulated market, beside popularity, the logging policy, random and the truth."""
    from adbeam.bundle import load_bundle
    from adbeam.evaluation.config import EvaluationConfig
    from adbeam.market.policies import play as run
    from adbeam.market.report import as_text, revenue_lines
    from adbeam.market.simulate import open_market
    from adbeam.workdir import WorkDir

    order = EvaluationConfig.parse({"order_by": order_by}, "--order-by").order_by
    world, loaded = open_market(work_dir), load_bundle(bundle or WorkDir(work_dir).bundles)
    result = run(world, work_dir, loaded, days=days, requests=requests, order_by=order, cascade=cascade, tell=_tell)
    typer.echo(as_text(result) if as_json else "\n".join(revenue_lines(result)))


def _tell(text: str) -> None:
    """Progress goes beside the result, which may be JSON for another program."""
    typer.echo(text, err=True)
