"""`adbeam campaigns`: what campaigns may spend, and what they have spent, straight in the ledger of budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from adbeam.budgets.ledger import Ledger

campaigns_app = typer.Typer(
    help="Give campaigns budgets, and see what they have spent.", no_args_is_help=True, rich_markup_mode=None
)

Place = Annotated[str, typer.Option("--budgets", help="The ledger: its SQLite file, or redis://HOST:PORT/DB")]
Name = Annotated[str, typer.Argument(help="The campaign, as the catalogue names it")]


@campaigns_app.command("set")
def set_budget(
    campaign: Name,
    budgets: Place,
    day: Annotated[float | None, typer.Option(help="Money a day; without it any")] = None,
    total: Annotated[float | None, typer.Option(help="Money in all; without it any")] = None,
    pacing: Annotated[str, typer.Option(help="asap, or even: at no moment more than the day's share so far")] = "asap",
) -> None:
    """Give a campaign a budget in place of the one it has; what it has spent stays counted."""
    from adbeam.budgets.ledger import Budget

    budget = Budget.parse({"day": day, "total": total, "pacing": pacing}, source="budget")
    _open(budgets).set(campaign, budget)
    typer.echo(f"{campaign}\tday {_money(day)}\ttotal {_money(total)}\t{pacing}")


@campaigns_app.command("remove")
def remove(campaign: Name, budgets: Place) -> None:
    """Let a campaign spend without a bound."""
    _open(budgets).set(campaign, None)
    typer.echo(f"{campaign}\tno budget")


@campaigns_app.command("list")
def list_budgets(
    budgets: Place, timezone: Annotated[str, typer.Option(help="In which a day turns, as serving's YAML says")] = "UTC"
) -> None:
    """Print every campaign with a budget: what it may spend, has spent and holds back."""
    import time

    from adbeam.budgets.ledger import day_of

    now_ms = int(time.time() * 1000)
    typer.echo("campaign\ttoday\tday\tin all\ttotal\theld back\tpacing")
    for name, account in sorted(_open(budgets).accounts(day_of(now_ms, timezone), now_ms).items()):
        budget = account.budget
        today, total, held = (f"{money:.2f}" for money in (account.today, account.total, account.reserved))
        typer.echo("\t".join([name, today, _money(budget.day), total, _money(budget.total), held, budget.pacing]))


def _money(money: float | None) -> str:
    return "any" if money is None else f"{money:.2f}"


def _open(place: str) -> Ledger:
    from adbeam.budgets.config import BudgetsConfig
    from adbeam.budgets.open_ledger import open_ledger

    config = {"redis_url": place} if "://" in place else {"path": place}
    ledger = open_ledger(BudgetsConfig.parse(config, source="--budgets"))
    assert ledger is not None
    return ledger
