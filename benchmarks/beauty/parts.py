"""What stands beside the trained rows: `--parts counts` and `--parts look`, each with a result file of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adbeam import artifacts
from adbeam.errors import UserError
from benchmarks.beauty import counts
from benchmarks.beauty.data import Beauty, Split
from benchmarks.beauty.lazyar import LazyARRow
from benchmarks.beauty.look import look
from benchmarks.beauty.sasrec import SASRecRow
from benchmarks.rig.report import commit, hardware

COUNTS, ROW = "counts", "row.json"
Row = dict[str, Any]


def count_rows(data: Beauty, folder: Path, keep: Path, splits: Sequence[Split]) -> dict[str, Row]:
    """A row for each count baseline; one that is kept with the same events and settings is not counted again, so that
    the test split is read once."""
    catalogue = counts.catalogue_of(folder)
    rows = {}
    for name in counts.COUNTS:
        path = keep / COUNTS / name / ROW
        key = artifacts.fingerprint(
            name, [items.tolist() for items in data.sequences], list(splits), counts.NEIGHBOURS.model_dump(),
            counts.USER_KNN.model_dump(), counts.EASE.model_dump(),
        )  # fmt: skip
        kept: Row = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if kept.get("key") != key:
            began = time.monotonic()
            kept = {"key": key, "commit": commit(), "hardware": hardware()}
            kept |= counts.count_row(name, data, catalogue, splits)
            kept["seconds"] = time.monotonic() - began
            path.parent.mkdir(parents=True, exist_ok=True)
            artifacts.write_json(path, kept)
        print(name, json.dumps({split: kept[f"{split}_new_only"] for split in splits}), flush=True)
        rows[name] = kept
    return rows


def count_figures(rows: dict[str, Row]) -> dict[str, float | None]:
    """Those of the neighbours with text, the best of them, on the test split."""
    best = rows["neighbours"]
    pairs = (("recall10", "recall@10"), ("ndcg10", "ndcg@10"))
    return {
        f"beauty_{figure}_counts{suffix}": best[f"test{table}"][metric] if "test" in best else None
        for figure, metric in pairs
        for suffix, table in (("", ""), ("_filtered", "_new_only"))
    }


def look_tables(
    data: Beauty, lazy: LazyARRow, rival: SASRecRow, folder: Path, splits: Sequence[Split]
) -> dict[str, Any]:
    """The tables of look.py; raises UserError where LazyAR is not trained to its end. SASRec is left out while it is
    not."""
    if not lazy.fit.progress.finished:
        raise UserError(
            f"{lazy.fit.folder} holds no finished training", field="--parts", value="look",
            remedy="train the row first: the same command with --parts rows --rows lazyar-0",
        )  # fmt: skip
    scorer = counts.scorer_of("neighbours", data, counts.catalogue_of(folder))
    return look(data, lazy, rival if rival.fit.progress.finished else None, scorer, splits)
