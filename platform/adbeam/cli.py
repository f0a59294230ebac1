"""The command line: one verb a step. Everything heavy is imported inside the verb that needs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from adbeam.cluster.commands import cluster_app
from adbeam.dashboards.commands import dashboards_app
from adbeam.errors import UserError
from adbeam.jobs.commands import jobs_app
from adbeam.serving.commands import ads_app

app = typer.Typer(
    help="adbeam: train a generative ad recommender on Ray and serve it with beams that follow the load.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(ads_app, name="ads")
app.add_typer(jobs_app, name="jobs")
app.add_typer(cluster_app, name="cluster")
app.add_typer(dashboards_app, name="dashboards")

ConfigPath = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML of the jobs, for example jobs/train.yaml")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Override one key: --set training.max_steps=100 (repeatable)")
]


@app.command()
def prepare(config: ConfigPath = None, override: Overrides = None) -> None:
    """Clean an ad log and catalogue into events, sequences and splits."""
    from adbeam.logs import prepare as run

    run(_load(config, override))


@app.command()
def tokenize(config: ConfigPath = None, override: Overrides = None) -> None:
    """Give every item of the catalogue its semantic ID."""
    from adbeam.tokens import tokenize as run

    run(_load(config, override))


@app.command()
def train(config: ConfigPath = None, override: Overrides = None) -> None:
    """Train LazyAR with Ray Train and DeepSpeed; a rerun resumes from the last checkpoint."""
    from adbeam.training import train as run

    run(_load(config, override))


@app.command()
def export(config: ConfigPath = None, override: Overrides = None) -> None:
    """Turn the newest checkpoint into a bundle that serving can load."""
    from adbeam.export import export as run

    run(_load(config, override))


@app.command()
def reward(config: ConfigPath = None, override: Overrides = None) -> None:
    """Train the reward model (pCTR and pCVR, so eCPM) on the log's exposures; its calibration is reported."""
    from adbeam.rewards import reward as run

    run(_load(config, override))


@app.command("generate-lists")
def generate_lists(config: ConfigPath = None, override: Overrides = None) -> None:
    """Generate candidate lists with a wider beam and exploration, judged by the reward model."""
    from adbeam.rewards import generate_lists as run

    run(_load(config, override))


@app.command()
def online(
    config: ConfigPath = None,
    override: Overrides = None,
    rounds: Annotated[
        int | None, typer.Option(help="At most this many rounds; default: until no log file is new")
    ] = None,
) -> None:
    """Learn from what was served and what came of it; a new bundle is published only where it is not worse."""
    from adbeam.online import online as run

    run(_load(config, override), rounds)


@app.command()
def evaluate(
    config: ConfigPath = None,
    override: Overrides = None,
    split: Annotated[str, typer.Option(help="validation or test")] = "test",
) -> None:
    """Rank the catalogue for every request of a split; compare with popularity and repeat baselines."""
    from adbeam.evaluation.evaluate import evaluate as run

    run(_load(config, override), split)


@app.command()
def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="Serve application YAML")] = Path("serving/ads.yaml"),
    work_dir: Annotated[
        Path | None, typer.Option(help="work_dir of the jobs: its bundles, its histories, its own store and event log")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder, or a folder with a CURRENT pointer")] = None,
    override: Overrides = None,
    port: Annotated[int, typer.Option(help="HTTP port on 127.0.0.1", min=1, max=65535)] = 8000,
) -> None:
    """Serve ads over HTTP until interrupted."""
    from adbeam.serving.launch import of_work_dir, serve_until_interrupted

    chosen = of_work_dir(work_dir) if work_dir is not None else {}
    if bundle is not None:
        chosen["bundle"] = str(bundle)
    serve_until_interrupted(config, {**chosen, **_parse_overrides(override or [])}, port)


@app.command()
def request(
    user: Annotated[str, typer.Option(help="User id; an unknown one gets the cold-start answer")],
    scene: Annotated[str | None, typer.Option(help="Placement the ads are for")] = None,
    count: Annotated[int, typer.Option(help="How many ads")] = 5,
    url: Annotated[str, typer.Option(help="Where the endpoint is")] = "http://127.0.0.1:8000",
    token: Annotated[str | None, typer.Option(envvar="ADBEAM_TOKEN", help="Bearer token, where auth is on")] = None,
) -> None:
    """Ask a running endpoint for ads and print them."""
    from adbeam.serving.client import print_ads, request_ads

    body: dict[str, Any] = {"user_id": user, "count": count}
    if scene:
        body["scene"] = scene
    print_ads(request_ads(url, body, token=token))


@app.command()
def loadtest(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML of the load test")] = None,
    override: Overrides = None,
    work_dir: Annotated[Path | None, typer.Option(help="work_dir of the jobs: whose users ask")] = None,
    url: Annotated[str | None, typer.Option(help="Endpoint, default http://127.0.0.1:8000/v1/ads")] = None,
    allow_host: Annotated[str | None, typer.Option(help="Host that is not this machine and may be loaded")] = None,
    report: Annotated[Path | None, typer.Option(help="Where the report goes, .png or .html")] = None,
    token: Annotated[str | None, typer.Option(envvar="ADBEAM_TOKEN", help="Bearer token, where auth is on")] = None,
) -> None:
    """Send open-loop load (a step, ramp or recorded trace) to an endpoint and report what came of it."""
    from adbeam.serving.loadplan import load_test, read_load_test, show

    given = {"target.url": url, "target.allow_host": allow_host, "target.token": token, "report": report}
    if work_dir is not None:
        given["users"] = work_dir / "prepared" / "sequences"
    overrides = {name: value for name, value in given.items() if value is not None}
    chosen = read_load_test(config, {**overrides, **_parse_overrides(override or [])})
    _, figures = load_test(chosen)
    show(figures)
    typer.echo(f"wrote {chosen.report}")


@app.command()
def sweep(
    config: Annotated[Path, typer.Option("--config", "-c", help="YAML of the sweep")] = Path("jobs/sweep.yaml"),
    override: Overrides = None,
) -> None:
    """Try settings with Ray Tune; the best by recall on validation requests is written as YAML."""
    from adbeam.sweep.search import BEST, lines, read_sweep
    from adbeam.sweep.search import sweep as run

    chosen = read_sweep(config, _parse_overrides(override or []))
    typer.echo("\n".join(lines(run(chosen))))
    typer.echo(f"wrote {chosen.folder / BEST}")


@app.command()
def runs(
    names: Annotated[list[str] | None, typer.Argument(help="Runs to compare, or beginnings of their names")] = None,
    work_dir: Annotated[list[Path] | None, typer.Option(help="work_dir of the jobs (repeatable)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """List training runs with their last metrics, and compare what was set differently."""
    from adbeam.training.runs import choose, find_runs, lines

    found = choose(find_runs(work_dir or [Path("runs")]), names or [])
    typer.echo(json.dumps([run.as_dict() for run in found], indent=2) if as_json else "\n".join(lines(found)))


@app.command()
def quickstart(
    config: Annotated[Path, typer.Option("--config", "-c")] = Path("jobs/quickstart.yaml"),
    override: Overrides = None,
    serving: Annotated[Path, typer.Option(help="Serve application YAML")] = Path("serving/ads.yaml"),
    port: Annotated[int, typer.Option(help="HTTP port on 127.0.0.1", min=1, max=65535)] = 8000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the endpoint running")] = False,
) -> None:
    """The whole loop on a real log: prepare, tokenize, train, export, evaluate, serve, burst."""
    from adbeam.quickstart import run

    run(_load(config, override), serving_yaml=serving, port=port, keep=keep)


@app.command()
def doctor(
    work_dir: Annotated[Path, typer.Option(help="work_dir of the jobs")] = Path("runs/default"),
    bundle: Annotated[Path | None, typer.Option(help="Bundle to verify; default: the one in force")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Look for what would stop adbeam from working here; exit 1 when there is such a fault."""
    from dataclasses import asdict

    from adbeam.doctor import examine

    findings = examine(work_dir=work_dir, bundle=bundle)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    for finding in () if as_json else findings:
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        typer.echo(f"{finding.verdict:8} {finding.topic:20} {finding.text}{remedy}")
    if any(finding.verdict == "fault" for finding in findings):
        raise typer.Exit(1)


@app.command()
def status(
    work_dir: Annotated[Path, typer.Option(help="work_dir of the jobs")] = Path("runs/default"),
    address: Annotated[str | None, typer.Option("--address", "-a", help="Dashboard, http://HEAD:8265")] = None,
    metrics: Annotated[
        list[str] | None, typer.Option(help="Metrics endpoint of a node, for the rungs of its replicas (repeatable)")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the cluster's token")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Applications and replicas, rung, bundle, and what each step last made."""
    from adbeam.jobs.submit import use_token_file
    from adbeam.status import lines, read_status

    use_token_file(token_file)
    found = read_status(work_dir=work_dir, address=address, metrics_urls=metrics)
    typer.echo(found.to_json() if as_json else "\n".join(lines(found)))
    if found.unreachable and address:
        raise typer.Exit(1)


@config_app.command("show")
def config_show(config: ConfigPath = None, override: Overrides = None) -> None:
    """Print the effective configuration as YAML, with every default filled in."""
    effective = json.loads(_load(config, override).model_dump_json())
    typer.echo(yaml.safe_dump(effective, sort_keys=False), nl=False)


def _load(path: Path | None, overrides: list[str] | None) -> Any:
    from adbeam.config import Config

    return Config.load(path, _parse_overrides(overrides or []))


def _parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """{"training.max_steps": 100} from ["training.max_steps=100"]; values are YAML."""
    parsed = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UserError("an override is key=value", field="--set", value=pair)
        parsed[key] = yaml.safe_load(value)
    return parsed


def main() -> None:
    """Entry point: a UserError is one clear line and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.secho(f"adbeam: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
