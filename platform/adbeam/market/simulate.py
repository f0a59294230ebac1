"""`adbeam market simulate`: a work_dir of the simulated market that every later step takes for one of a real log."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.market.config import MarketConfig
from adbeam.market.log import USERS
from adbeam.market.workdir import features_of, prepare_market, tokenize_market
from adbeam.market.world import World
from adbeam.settings import set_key
from adbeam.workdir import WorkDir

MARKET = "market.json"
"""In a work_dir: the settings and seed that make its market again."""
JOBS = "jobs.yaml"


def read_market(overrides: Mapping[str, Any]) -> MarketConfig:
    """The market's settings with `overrides`; raises UserError."""
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        set_key(values, key, value, "market")
    return MarketConfig.parse(values, "market")


def simulate(
    market: MarketConfig,
    work_dir: Path,
    *,
    seed: int,
    size: str,
    codebooks: tuple[int, ...],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Write log, catalogue, `prepared`, `tokens` and the YAML that later steps take; returns the account of it.

    `size` and its `codebooks` are those of the model that will learn it. Raises UserError where `work_dir` holds
    the folders of another log.
    """
    layout = WorkDir(work_dir)
    if layout.prepared.exists() and not (work_dir / MARKET).is_file():
        raise UserError("holds the log of another source", field="--work-dir", value=str(work_dir),
                        remedy="name a folder of its own for the simulated market")  # fmt: skip
    work_dir.mkdir(parents=True, exist_ok=True)
    tell(f"making a market of {market.users} users and {market.ads} ads")
    world = World(market, seed)
    artifacts.write_json(work_dir / MARKET, world.describe())
    tell(f"playing {market.days} days under the logging policy, and preparing their log")
    with contextlib.redirect_stdout(sys.stderr):  # `prepare` prints its own account; ours alone is the result
        prepared = prepare_market(world, work_dir)
    tell("giving the ads their semantic IDs")
    sid_NT = tokenize_market(world, work_dir, codebooks)
    jobs: dict[str, Any] = {"size": size, "work_dir": str(work_dir), "seed": seed}
    if told := features_of(world):
        jobs["features"] = {name: feature.model_dump() for name, feature in told.items()}
    (work_dir / JOBS).write_text(
        f"# Written by `adbeam market simulate`: the log is simulated.\n{yaml.safe_dump(jobs, sort_keys=False)}"
    )
    return {
        "simulated": True,
        "seed": seed,
        "days": market.days,
        "users": market.users,
        "ads": market.ads,
        "different_sids": len({tuple(sid) for sid in sid_NT.tolist()}),
        "events": dict(prepared.account["actions"]),
        "wrote": {
            "log and catalogue": str(layout.log),
            **({"table of users": str(layout.log / USERS)} if market.tells_users else {}),
            "prepared log": str(layout.prepared),
            "semantic IDs": str(layout.tokens),
            "settings of the market": str(work_dir / MARKET),
            "settings of the jobs": str(work_dir / JOBS),
        },
    }


def open_market(work_dir: Path) -> World:
    """The market that `simulate` made; raises UserError where it made none."""
    try:
        values = json.loads((work_dir / MARKET).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"no simulated market: {error}", field="--work-dir", value=str(work_dir),
                        remedy="make one with adbeam market simulate")  from None  # fmt: skip
    seed = int(values.pop("seed"))
    values.pop("simulated")
    return World(MarketConfig.parse(values, str(work_dir / MARKET)), seed)
