"""The command line: one verb a step. Everything heavy is imported inside the verb that needs it."""

from __future__ import annotations

import json
import sys

import typer

from adbeam.cli import operations, serving, steps
from adbeam.cli.cluster import cluster_app
from adbeam.cli.dashboards import dashboards_app
from adbeam.cli.docs import docs_app
from adbeam.cli.jobs import jobs_app
from adbeam.cli.live.ads import ads_app
from adbeam.cli.live.campaigns import campaigns_app
from adbeam.cli.live.users import users_app
from adbeam.cli.market import market_app
from adbeam.cli.options import ConfigPath, Overrides, load
from adbeam.errors import UserError

app = typer.Typer(
    help="adbeam: train a generative ad recommender on Ray and serve it with beams that follow the load.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Help in plain text: boxes would load rich, its Markdown and its highlighter, half of the time of `adbeam --help`.
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
)
config_app = typer.Typer(help="Look at the configuration.", no_args_is_help=True, rich_markup_mode=None)
VERBS = (
    *(steps.prepare, steps.tokenize, steps.train, steps.export, steps.reprice),
    *(steps.foundation, steps.represent),
    *(steps.reward, steps.generate_lists, steps.online, steps.evaluate),
    *(serving.serve, serving.request, serving.loadtest),
    *(steps.sweep, steps.runs, steps.quickstart),
    *(operations.doctor, operations.status),
)
"""In the order of the help."""
GROUPS = {
    "config": config_app,
    "ads": ads_app,
    "users": users_app,
    "campaigns": campaigns_app,
    "jobs": jobs_app,
    "cluster": cluster_app,
    "dashboards": dashboards_app,
    "market": market_app,
    "docs": docs_app,
}
for verb in VERBS:
    app.command(short_help=(verb.__doc__ or "").splitlines()[0])(verb)  # else it is cut to fit one line
for name, group in GROUPS.items():
    app.add_typer(group, name=name, short_help=group.info.help)


@config_app.command("show")
def config_show(config: ConfigPath = None, override: Overrides = None) -> None:
    """Print the effective configuration as YAML, with every default filled in."""
    import yaml

    effective = json.loads(load(config, override).model_dump_json())
    typer.echo(yaml.safe_dump(effective, sort_keys=False), nl=False)


def run() -> None:
    """Run the verb that was asked for: a UserError is one clear line and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.secho(f"adbeam: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2)
