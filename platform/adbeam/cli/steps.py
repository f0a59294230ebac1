"""Verbs that run a step of the jobs: from a log to tokens, weights, a bundle and its judgement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from adbeam.cli.options import AsJson, ConfigPath, Overrides, Port, ServingYaml, load, parse_overrides


def prepare(config: ConfigPath = None, override: Overrides = None) -> None:
    """Clean an ad log and catalogue into events, sequences and splits."""
    from adbeam.logs import prepare as run

    run(load(config, override))


def tokenize(config: ConfigPath = None, override: Overrides = None) -> None:
    """Give every item of the catalogue its semantic ID."""
    from adbeam.tokens import tokenize as run

    run(load(config, override))


def train(config: ConfigPath = None, override: Overrides = None) -> None:
    """Train LazyAR with Ray Train and DeepSpeed; a rerun resumes from the last checkpoint."""
    from adbeam.training import train as run

    run(load(config, override))


def export(config: ConfigPath = None, override: Overrides = None) -> None:
    """Turn the newest checkpoint into a bundle that serving can load."""
    from adbeam.export import export as run

    run(load(config, override))


def reprice(config: ConfigPath = None, override: Overrides = None) -> None:
    """Correct the prices of the bundle in force by what its own answers brought; writes the next bundle."""
    from adbeam.export.reprice import reprice_bundle

    print(f"wrote {reprice_bundle(load(config, override))}")


def foundation(config: ConfigPath = None, override: Overrides = None) -> None:
    """Train one model over all scenes, ads and organic, with Ray Train; its AUC by scene is printed."""
    from adbeam.foundation import foundation as run

    run(load(config, override))


def represent(config: ConfigPath = None, override: Overrides = None) -> None:
    """Aggregate what the foundation makes of the log into representations of users and items."""
    from adbeam.foundation import represent as run

    run(load(config, override))


def reward(config: ConfigPath = None, override: Overrides = None) -> None:
    """Train the reward model (pCTR and pCVR, so eCPM) on the log's exposures; its calibration is reported."""
    from adbeam.rewards import reward as run

    run(load(config, override))


def generate_lists(config: ConfigPath = None, override: Overrides = None) -> None:
    """Generate candidate lists with a wider beam and exploration, judged by the reward model."""
    from adbeam.rewards import generate_lists as run

    run(load(config, override))


def online(
    config: ConfigPath = None,
    override: Overrides = None,
    rounds: Annotated[
        int | None, typer.Option(help="At most this many rounds; default: until no log file is new")
    ] = None,
) -> None:
    """Learn from what was served and what came of it; a new bundle is published only where it is not worse."""
    from adbeam.online import online as run

    run(load(config, override), rounds)


def evaluate(
    config: ConfigPath = None,
    override: Overrides = None,
    split: Annotated[str, typer.Option(help="validation or test")] = "test",
    model: Annotated[
        bool, typer.Option("--model/--without-model", help="Judge the bundle in force, or the baselines alone")
    ] = True,
) -> None:
    """Rank the catalogue for every request of a split; compare with the baselines of `evaluation.baselines`."""
    from adbeam.evaluation.evaluate import evaluate as run

    run(load(config, override), split, model=model)


def sweep(
    config: Annotated[Path, typer.Option("--config", "-c", help="YAML of the sweep")] = Path("jobs/sweep.yaml"),
    override: Overrides = None,
) -> None:
    """Try settings with Ray Tune; the best by recall on validation requests is written as YAML."""
    from adbeam.sweep.search import BEST, lines, read_sweep
    from adbeam.sweep.search import sweep as run

    chosen = read_sweep(config, parse_overrides(override))
    typer.echo("\n".join(lines(run(chosen))))
    typer.echo(f"wrote {chosen.folder / BEST}")


def runs(
    names: Annotated[list[str] | None, typer.Argument(help="Runs to compare, or beginnings of their names")] = None,
    work_dir: Annotated[list[Path] | None, typer.Option(help="work_dir of the jobs (repeatable)")] = None,
    as_json: AsJson = False,
) -> None:
    """List training runs with their last metrics, and compare what was set differently."""
    from adbeam.training.tracking.runs import choose, find_runs, lines

    found = choose(find_runs(work_dir or [Path("runs")]), names or [])
    typer.echo(json.dumps([run.as_dict() for run in found], indent=2) if as_json else "\n".join(lines(found)))


def quickstart(
    config: Annotated[Path, typer.Option("--config", "-c")] = Path("jobs/quickstart.yaml"),
    override: Overrides = None,
    size: Annotated[str | None, typer.Option(help="tiny, small, base or paper: as --set size=...")] = None,
    serving: ServingYaml = Path("serving/ads.yaml"),
    port: Port = 8000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the endpoint running")] = False,
) -> None:
    """The whole loop on a real log: prepare, tokenize, train, export, evaluate, serve, burst."""
    from adbeam.quickstart import run

    sized = [f"size={size}"] if size is not None else []
    run(load(config, [*sized, *(override or [])]), serving_yaml=serving, port=port, keep=keep)
