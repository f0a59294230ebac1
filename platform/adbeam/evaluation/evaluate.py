"""`adbeam evaluate`: a bundle against baselines on one split, written down and printed.

Every request ranks the whole catalogue of ads. Two questions are asked of each list: which ads converted (`all`), and
which of those were new to the user (`new`, where every ranking leaves out what the user had before). In groceries most
purchases repeat, so one number alone would flatter either a model that only repeats or one that only explores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from adbeam import artifacts
from adbeam.bundle import load_bundle
from adbeam.decoding.config import DecodingConfig
from adbeam.errors import UserError
from adbeam.evaluation.baselines.popularity import Popularity, count_conversions, rank_popularity
from adbeam.evaluation.baselines.rivals import Rivals
from adbeam.evaluation.config import EvaluationConfig
from adbeam.evaluation.metrics import measure, money_weighted_mean
from adbeam.evaluation.model_parts import MODEL, recommenders
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import Request, UserSequence, read_sequences, requests_in
from adbeam.ray_data.progress import told
from adbeam.workdir import WorkDir

QUESTIONS = ("all", "new")
PART = 64


class EvaluateSettings(Protocol):
    """What `evaluate` reads of the root configuration."""

    @property
    def work_dir(self) -> Path: ...
    @property
    def decoding(self) -> DecodingConfig: ...
    @property
    def evaluation(self) -> EvaluationConfig: ...


def evaluate(config: EvaluateSettings, split: str = "test", *, model: bool = True) -> dict[str, dict[str, float]]:
    """{"all/model": {"recall@10": ...}, "new/popularity": ...}: means over the requests of `split`, see `summarise`.

    Without `model` the baselines are judged alone, and no bundle is needed: what counts know of a log before anything
    is trained. Also writes `work_dir/evaluation/<split>/` with the table and one row a request. Raises UserError when
    a step before it has not run or the split holds no request with a target: an ad conversion, or a click where the
    log's training split has no conversion (`PreparedLog.target_action`).
    """
    if split not in ("validation", "test"):
        raise UserError("can only judge validation or test", field="split", value=split)
    work_dir = WorkDir.of(config.work_dir)
    prepared, judged = PreparedLog.open(work_dir.prepared), config.evaluation
    bundle = load_bundle(work_dir.bundles) if model else None
    popularity = popularity_before(prepared, split)
    models = {} if bundle is None else recommenders(bundle, prepared, judged)
    requests = judged_requests(prepared, split, judged.max_requests)
    rivals = Rivals.of(prepared, popularity, judged)
    began = time.monotonic()
    rows = list(_judge(requests, models, rivals, config.decoding.widths, judged.cutoffs))
    table = summarise(rows)
    details = {"step": "evaluate", "split": split, "bundle": None if bundle is None else bundle.version,
               "requests": len(requests), "order_by": judged.order_by, "value": prepared.value}  # fmt: skip
    target = work_dir.evaluation / split
    with artifacts.publish(target, details) as staging:
        pq.write_table(pa.Table.from_pylist(rows), staging / "requests.parquet")
        artifacts.write_json(staging / "table.json", table)
    ads = len(models[MODEL].ads if models else popularity.ranked)
    print_table(table, judged.cutoffs, f"{split}: {len(requests)} requests, {ads} ads")
    print(f"evaluated in {time.monotonic() - began:.0f} s; wrote {target}")
    return table


def popularity_before(prepared: PreparedLog, split: str) -> Popularity:
    """Popularity of every ad by its ad conversions (or clicks: the log's target) before `split`."""
    catalogue = prepared.catalogue()
    ads = catalogue.filter(pc.equal(catalogue.column("kind"), "ad"))
    categories = dict(zip(ads.column("item_id").to_pylist(), ads.column("category").to_pylist(), strict=True))
    counts = count_conversions(_sequences(prepared), categories.keys(), before=split, action=prepared.target_action)
    return rank_popularity(counts, categories)


def judged_requests(prepared: PreparedLog, split: str, limit: int | None) -> list[Request]:
    """Requests of `split` in which an ad converted (or was clicked: the log's target), in the order of the shards."""
    action = prepared.target_action
    found = [
        request
        for sequence in _sequences(prepared)
        for request in requests_in(sequence, split, action)
        if request.ad_targets()
    ]
    if not found:
        raise UserError(f"the {split} split holds no request with an ad {action}", remedy="check logs.split")
    return found[:limit]


def _sequences(prepared: PreparedLog) -> Iterator[UserSequence]:
    for shard in prepared.sequences():
        yield from read_sequences(shard)


def _judge(
    requests: Sequence[Request],
    models: Mapping[str, Recommender],
    rivals: Rivals,
    widths: tuple[int, ...],
    cutoffs: tuple[int, ...],
) -> Iterator[dict[str, Any]]:
    """One row a request, question and method."""
    starts = range(0, len(requests), PART)
    parts = (
        _judge_part(requests[start : start + PART], models, rivals, widths, cutoffs)
        for start in track(starts, description="judging")
    )
    for rows in told(parts, len(starts), "judging requests, in batches"):
        yield from rows


def _judge_part(
    part: Sequence[Request],
    models: Mapping[str, Recommender],
    rivals: Rivals,
    widths: tuple[int, ...],
    cutoffs: tuple[int, ...],
) -> list[dict[str, Any]]:
    scores, found = rivals.scores(part), list[dict[str, Any]]()
    for question in QUESTIONS:
        new_only = question == "new"
        lists = {name: one.rank(part, widths, max(cutoffs), new_only=new_only) for name, one in models.items()}
        for row, request in enumerate(part):
            targets, banned = _asked(request, new_only)
            if not targets:
                continue
            answers = {name: ranked[row] for name, ranked in lists.items()}
            answers |= rivals.answers(request, row, scores, banned, max(cutoffs))
            for method, answer in answers.items():
                place = {"request_id": request.request_id, "question": question, "method": method}
                found.append({**place, "money": sum(targets.values()), **measure(answer, targets, cutoffs)})
    return found


def _asked(request: Request, new_only: bool) -> tuple[dict[str, float], set[str]]:
    """(the targets of a question, the items that no answer to it holds)."""
    targets = request.ad_targets()
    if not new_only:
        return targets, set()
    banned = set(request.history_items())
    return {item: value for item, value in targets.items() if item not in banned}, banned


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over requests, by question and method; `money_*` are those of `value_*` weighted by the requests' money."""
    held: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        held.setdefault(f"{row['question']}/{row['method']}", []).append(row)
    return {name: _means(group) for name, group in held.items()}


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    money_N = np.array([row["money"] for row in rows])
    means: dict[str, float] = {"requests": len(rows)}
    for metric in (name for name in rows[0] if "@" in name):
        metric_N = np.array([row[metric] for row in rows])
        means[metric] = float(metric_N.mean())
        if metric.startswith("value_"):
            means[metric.replace("value_", "money_")] = money_weighted_mean(metric_N, money_N)
    return means


def print_table(table: dict[str, dict[str, float]], cutoffs: Sequence[int], title: str) -> None:
    """The means, best recall first within each question."""
    k = max(cutoffs)
    columns = [f"recall@{k}", f"ndcg@{k}", f"money_recall@{k}"]
    shown = Table(title=title, title_justify="left")
    for name in ("targets", "ranking", *columns):
        shown.add_column(name, justify="left" if name in ("targets", "ranking") else "right")
    for name in sorted(table, key=lambda name: (name.split("/")[0], -table[name][columns[0]])):
        question, method = name.split("/")
        shown.add_row(question, method, *(f"{table[name][column]:.4f}" for column in columns))
    Console().print(shown)
