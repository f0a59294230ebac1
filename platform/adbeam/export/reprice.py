"""The step `reprice`: the prices of the bundle in force, corrected by what its own answers brought."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from adbeam.bundle import load_bundle, write_again
from adbeam.errors import UserError
from adbeam.export.prices.served import Served, read_served, reprice
from adbeam.logs.prepared import resolve_target
from adbeam.training.config import TrainingConfig
from adbeam.workdir import WorkDir

FEW_TARGETS = 20
"""Fewer say nothing worth a new bundle."""


class RepriceSettings(Protocol):
    """What `reprice` reads of the root configuration."""

    @property
    def work_dir(self) -> Path: ...
    @property
    def training(self) -> TrainingConfig: ...


def reprice_bundle(config: RepriceSettings) -> Path:
    """Write the bundle in force again with corrected prices and point CURRENT at it; returns its folder.

    Reads the logs of answers and events that serving wrote into the work_dir. Raises UserError where the bundle has no
    prices, or its answers were too few to correct them.
    """
    work_dir = WorkDir.of(config.work_dir)
    bundle = load_bundle(work_dir.bundles)
    if bundle.money is None or bundle.money.prices is None:
        raise UserError("has no prices to correct", field="bundle", value=bundle.version,
                        remedy="export one from a log with impressions and money (docs/money.md)")  # fmt: skip
    target = resolve_target(config.training.target_action, work_dir.prepared)
    served = read_served(
        sorted(work_dir.requests.glob("requests-*.parquet")), sorted(work_dir.events.glob("events-*.parquet")),
        bundle.version, target,
    )  # fmt: skip
    _check(served, bundle.version, work_dir)
    prices, found = reprice(bundle.money.prices, served)
    for source, said in found.items():
        if said["impressions"]:
            print(f"{source}: {said['impressions']:,} impressions and {said['targets']:,.0f} {target}s: a thousand "
                  f"were priced {said['priced']:,.2f} and brought {said['came']:,.2f}")  # fmt: skip
    details: dict[str, Any] = {
        name: value for name, value in bundle.manifest.items() if name not in ("files", "format", "version")
    }
    money = replace(bundle.money, prices=prices, found={**bundle.money.found, "served": found})
    return write_again(work_dir.bundles, bundle, {**details, "repriced": bundle.version}, money=money)


def _check(served: Served, version: str, work_dir: WorkDir) -> None:
    if served.targets_X.sum() < FEW_TARGETS:
        raise UserError(
            f"only {served.targets_X.sum():,.0f} targets followed {len(served):,} impressions of its answers, fewer "
            f"than {FEW_TARGETS}",
            field="bundle",
            value=version,
            remedy=f"let it serve longer with request and event logs in {work_dir.requests} and {work_dir.events}",
        )
