"""`python -m benchmarks.beauty DATA --model-dir MINILM`: Amazon Beauty from raw text to the table of the papers.

DATA holds sequences.txt.gz and items.csv.gz (S3-Rec's users, items and order). MiniLM text vectors -> co-occurrence ->
UA-SID -> LazyAR with all prefixes of a user in one pass; full ranking, leave one out, early stop on validation. Rows:
LazyAR with three seeds, plain AR (K = 0) and SASRec with sampled softmax. The test split is read once a row, when its
training is over; the answer is kept. The headline has no history filter, a second row has one.

Everything is kept in `--keep` after each epoch: run the same command again to go on. `--minutes` ends a call early.
`--proxy` forgets every user's last item: choices are made there, and kept in a folder of their own.
`--parts counts` makes the rows of count baselines, `--parts look` tells what a trained LazyAR knows (look.py).
`--also RESULT` takes finished rows of the same recipe from an earlier beauty.json; if that is another machine's, their
semantic IDs were made there, from the same texts and events.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.model.lazyar import parameter_count
from benchmarks.beauty import data as beauty_data
from benchmarks.beauty import lazyar as beauty_lazyar
from benchmarks.beauty import sasrec as beauty_sasrec
from benchmarks.beauty.data import Beauty, Split
from benchmarks.beauty.lazyar import BATCH_TARGETS, VARIANTS, LazyARRow
from benchmarks.beauty.parts import count_figures, count_rows, look_tables
from benchmarks.beauty.sasrec import SASRecRow
from benchmarks.rig.report import command, commit, hardware, report

ROWS = ("lazyar-0", "sasrec-0", "ar-0", "lazyar-1", "lazyar-2")
FURTHER = tuple(f"{name}-0" for name in VARIANTS if name not in ("lazyar", "ar"))
"""One seed each of what was left out or changed, judged on validation; run when they are named."""
PUBLISHED = {
    "SASRec": (0.0605, 0.0318),
    "S3-Rec": (0.0647, 0.0327),
    "TIGER": (0.0648, 0.0384),
    "ICLRec": (0.0744, 0.0403),
    "ActionPiece": (0.0775, 0.0424),
    "SASRec, tuned, filtered": (0.0921, 0.0531),
    "sequential rules, fitted with validation items, filtered": (0.0956, 0.0605),
    "popularity-corrected transitions, fitted with validation items, filtered": (0.0998, 0.0635),
}
"""Recall@10 and NDCG@10 on the same files. Filtered ones cannot answer the history: compare `test_new_only`."""

Row = dict[str, Any]
ROW = "row.json"


def main() -> None:
    """Go on with the rows that are not finished; write beauty.json from those that are."""
    options = _options()
    torch.set_num_threads(options.threads)
    known = _earlier(options.also)  # first: a wrong file is told before minutes of tokenizing
    data = beauty_data.read(
        options.data, options.model_dir, options.keep, options.users, proxy=options.proxy,
        tokens=options.parts != ["counts"],
    )  # fmt: skip
    if "rows" in options.parts:
        _rows(data, known, options)
    if "counts" in options.parts:
        splits: tuple[Split, ...] = ("validation", "test") if options.proxy or not options.users else ("validation",)
        found = count_rows(data, options.data, options.keep, splits)
        _report("beauty_counts", count_figures(found), {"rows": found, "users": len(data.sequences)}, options)
    if "look" in options.parts:
        _look(data, options)


def _look(data: Beauty, options: argparse.Namespace) -> None:
    """The tables of the first seed's row, or of a short training of it."""
    lazy, rival = (_open(name, data, _folder(name, options), options.epochs) for name in ("lazyar-0", "sasrec-0"))
    assert isinstance(lazy, LazyARRow) and isinstance(rival, SASRecRow)
    splits: tuple[Split, ...] = ("validation", "test") if options.proxy else ("validation",)
    tables = look_tables(data, lazy, rival, options.data, splits)
    extra = {"tables": tables, "users": len(data.sequences), "row": lazy.fit.key, "epochs": lazy.fit.progress.epoch}
    _report("beauty_look", {}, extra, options)


def _report(name: str, figures: dict[str, float | None], extra: dict[str, Any], options: argparse.Namespace) -> None:
    """NAME.json, or NAME_proxy.json, with the command that was given."""
    report(f"{name}_proxy" if options.proxy else name, figures, {"command": command("beauty"), **extra})


def _rows(data: Beauty, known: dict[str, Row], options: argparse.Namespace) -> None:
    began = time.monotonic()
    stop_at = began + options.minutes * 60 if options.minutes else float("inf")
    for name in options.rows:
        done = not _looked_at(options) and _finished(name, data, options.keep, known) is not None
        if time.monotonic() < stop_at and not done:
            _row(name, data, options, stop_at)
    if _looked_at(options):
        print("a look with other settings: judged on validation only, no result written", flush=True)
        return
    found = {name: row for name in ROWS + FURTHER if (row := _finished(name, data, options.keep, known)) is not None}
    left_out = [name for name in ROWS if name not in found]
    if left_out:
        print(f"not finished: {', '.join(left_out)}; run the same command again", flush=True)
    if found:
        _report("beauty", _figures(found), _extra(data, found, left_out, options), options)


def _row(name: str, data: Beauty, options: argparse.Namespace, stop_at: float) -> None:
    """Go on with a row: train until `stop_at`, and when training is over fill what its table still lacks.

    The test split is read for ROWS with their own recipe alone; what is only looked at is judged on validation.
    """
    looked_at, folder = _looked_at(options), _folder(name, options)
    row = _open(name, data, folder, options.epochs)
    if not row.run(stop_at):
        return
    result = _kept(folder, row.fit.key)
    if result is None:
        result = _facts(row) | {"key": row.fit.key, "commit": commit(), "hardware": hardware()}
    for table, judge in _tables(row, name, looked_at).items():
        if table not in result:
            began = time.monotonic()
            result[table] = judge()
            result["table_minutes"] = result.get("table_minutes", 0.0) + (time.monotonic() - began) / 60
            artifacts.write_json(folder / ROW, result)
            print(name, table, json.dumps(result[table]), flush=True)


def _folder(name: str, options: argparse.Namespace) -> Path:
    """Where a row is kept."""
    keep: Path = options.keep
    return keep / (f"look-{name}-{options.epochs}-{options.users}" if _looked_at(options) else name)


def _looked_at(options: argparse.Namespace) -> bool:
    """Whether this is a quick look and not the benchmark."""
    return bool(options.epochs or options.users)


def _tables(row: LazyARRow | SASRecRow, name: str, looked_at: bool) -> dict[str, Callable[[], dict[str, float]]]:
    """What is told of a row: table name -> its maker."""
    tables: dict[str, Callable[[], dict[str, float]]] = {"validation": lambda: row.table("validation")}
    if name in ROWS and not looked_at:
        tables |= {"test": lambda: row.table("test"), "test_new_only": lambda: row.table("test", new_only=True)}
    else:
        tables["validation_new_only"] = lambda: row.table("validation", new_only=True)
    if isinstance(row, LazyARRow):
        tables["validation_wide_beams"] = row.wide_beams
    return tables


def _kept(folder: Path, key: str) -> Row | None:
    """What is known of a row of these settings."""
    path = folder / ROW
    kept: Row | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return kept if kept is not None and kept["key"] == key else None


def _earlier(results: list[Path]) -> dict[str, Row]:
    """Rows of earlier results by name."""
    known: dict[str, Row] = {}
    for path in results:
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            known |= {name: {"hardware": result["hardware"], **row} for name, row in result["rows"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"not a result of this benchmark ({error!r})", field="--also", value=str(path),
                            remedy="give a beauty.json") from error  # fmt: skip
    return known


def _finished(name: str, data: Beauty, keep: Path, known: dict[str, Row]) -> Row | None:
    """A row whose tables are there: its own, or an earlier result's of the same recipe."""
    if not (keep / name / ROW).is_file() and name not in known:
        return None
    row = _open(name, data, keep / name, None)
    for found in (_kept(keep / name, row.fit.key), known.get(name)):
        if found is not None and found["key"] == row.fit.key and _tables(row, name, False).keys() <= found.keys():
            return found
    return None


def _open(name: str, data: Beauty, folder: Path, epochs: int | None) -> LazyARRow | SASRecRow:
    kind, seed = name.rsplit("-", 1)
    recipe = beauty_sasrec.RECIPE if kind == "sasrec" else beauty_lazyar.RECIPE
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs, validate_from=min(epochs, recipe.validate_from))
    if kind == "sasrec":
        return SASRecRow(data, int(seed), folder, recipe)
    return LazyARRow(data, kind, int(seed), folder, recipe)


def _facts(row: LazyARRow | SASRecRow) -> Row:
    """What the training took."""
    progress = row.fit.progress
    facts = {
        "parameters": parameter_count(row.model),
        "minutes": progress.seconds / 60,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
    }
    if isinstance(row, LazyARRow):
        targets = float((row.order.length_U - 1).sum())
        facts["padding_share"] = row.order.padding_share(0)
        facts["flops"] = 3 * row.flops_per_target() * targets * progress.epoch
    return facts


def _figures(found: dict[str, Row]) -> dict[str, float | None]:
    lazy = [row for name, row in found.items() if name.startswith("lazyar")]

    def mean(key: str) -> float | None:
        return float(np.mean([row["test"][key] for row in lazy])) if lazy else None

    def one(name: str, key: str) -> float | None:
        return found[name]["test"][key] if name in found else None

    return {
        "beauty_recall10": mean("recall@10"),
        "beauty_ndcg10": mean("ndcg@10"),
        "beauty_recall10_ar": one("ar-0", "recall@10"),
        "beauty_ndcg10_ar": one("ar-0", "ndcg@10"),
        "beauty_recall10_sasrec": one("sasrec-0", "recall@10"),
        "beauty_ndcg10_sasrec": one("sasrec-0", "ndcg@10"),
        "beauty_recall10_new_only": float(np.mean([row["test_new_only"]["recall@10"] for row in lazy]))
        if lazy
        else None,
        "beauty_minutes": float(np.mean([row["minutes"] + row["table_minutes"] for row in lazy])) if lazy else None,
        "beauty_seeds": len(lazy),
    }


def _extra(data: Beauty, found: dict[str, Row], left_out: list[str], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "rows": found,
        "popularity": beauty_data.popularity_row(data, "test"),
        "published": {name: {"recall@10": pair[0], "ndcg@10": pair[1]} for name, pair in PUBLISHED.items()},
        "tokens": {"codebooks": list(data.codebooks), **data.tokens},
        "batch_targets": BATCH_TARGETS,
        "users": len(data.sequences),
        "threads": options.threads,
        "left_out": left_out,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with sequences.txt.gz and items.csv.gz")
    parser.add_argument("--model-dir", type=Path, help="folder of all-MiniLM-L6-v2; without it texts become TF-IDF")
    parser.add_argument("--keep", type=Path, default=Path("runs/benchmark-beauty"), help="where everything is kept")
    parser.add_argument("--also", type=Path, nargs="+", default=[], help="earlier results whose rows are taken over")
    parser.add_argument("--parts", nargs="+", choices=("rows", "counts", "look"), default=["rows"])
    parser.add_argument("--proxy", action="store_true", help="one item earlier: [:-3] trains, [-3] stops, [-2] judges")
    parser.add_argument("--rows", nargs="+", choices=ROWS + FURTHER, default=list(ROWS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="start no further epoch after so long")
    parser.add_argument("--epochs", type=int, help="another number of epochs than the recipe's")
    parser.add_argument("--users", type=int, help="only the first users: a quick look, not the benchmark")
    options = parser.parse_args()
    options.keep = options.keep / "proxy" if options.proxy else options.keep
    return options
