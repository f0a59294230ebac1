"""The preparation: read, validate and spill by user; then order, de-duplicate, split and publish each shard.

Two Ray Data pipelines over the shares of the log and over the shards of its users. Rows go from task to task through
files below the (shared) work folder; only counts come to the driver. The result appears whole or not at all.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.logs.account import Account, print_account
from adbeam.logs.catalogue import QUARANTINE_FILE as CATALOGUE_QUARANTINE
from adbeam.logs.config import FilesConfig, LogsConfig
from adbeam.logs.ids.columns import nobody_set
from adbeam.logs.ids.examples import unmatched, without_people
from adbeam.logs.items.versions import SEVERAL_ROWS, remedy_for_several
from adbeam.logs.prepared import ACCOUNT, PreparedLog
from adbeam.logs.reading import Chunk
from adbeam.logs.shards import Quarantine, Spill, assemble_shard, weigh
from adbeam.logs.sources.base import CATALOGUE_FILE, SPILL, Source
from adbeam.logs.sources.registry import open_source
from adbeam.logs.times.spans import refuse_empty_parts
from adbeam.logs.times.units import plausible_unit, refuse_wrong_unit
from adbeam.logs.told.columns import check_known, told
from adbeam.logs.told.fitting import fit_told
from adbeam.logs.told.items import check_items
from adbeam.logs.trending import FILE as TRENDING_FILE
from adbeam.logs.trending import write_trending
from adbeam.logs.validate import (
    EVENT_ID_TAKEN,
    NOT_IN_CATALOGUE,
    QUARANTINE_SCHEMA,
    EventRules,
    malformed_rows,
    validate_events,
    whole_column,
    with_encoding,
)
from adbeam.logs.values.target_values import check_impressions, count_shard, fit_rates, write_shard
from adbeam.ray_data.runners import InProcessRunner, Runner, answered, ray_runner, succeeded
from adbeam.targeting.features import Features
from adbeam.workdir import EVENTS, QUARANTINE, SEQUENCES, WorkDir

FORMAT = 3
"""Raised when the layout or the rules change, so that older folders are prepared again."""

_ONE_ID_MANY_EVENTS = (
    "an event_id must be one event's own; a column that an impression shares with its click and order is a request id: "
    "map it to request_id instead of event_id, or raise the limit"
)


class PrepareSettings(Protocol):
    """The part of the root configuration that the preparation reads."""

    @property
    def work_dir(self) -> Path: ...

    @property
    def logs(self) -> LogsConfig: ...


def run(config: PrepareSettings, *, in_process: bool = False) -> PreparedLog:
    """Prepare `config.logs` into work_dir/prepared, or find it current; prints the account either way.

    `in_process` does without Ray, for a log of a few thousand rows.
    """
    target = WorkDir.of(config.work_dir).prepared
    features: Features | None = getattr(config, "features", None)  # settings of a caller's own need not have them
    source = open_source(config.logs, features)
    check_known(features, source.features, config.logs)
    if config.logs.value == "ecpm":
        check_impressions(source)
    inputs = source.check()
    details = describe(config.logs, inputs, features)
    if artifacts.is_current(target, details):
        prepared = PreparedLog.open(target, verify=False)
        print_account(prepared.account, f"{target} is current")
        return prepared
    runners: AbstractContextManager[Runner] = nullcontext(InProcessRunner()) if in_process else ray_runner()
    with runners as runner, artifacts.publish(target, details) as staging:
        account = _prepare(config.logs, source, inputs, staging.resolve(), runner, features or {})
    prepared = PreparedLog.open(target, verify=False)
    print_account(account.to_dict(), f"prepared {config.logs.source} into {target}")
    return prepared


def describe(logs: LogsConfig, inputs: list[Path], features: Features | None = None) -> dict[str, Any]:
    """What decides whether a prepared folder is current."""
    settings = logs.model_dump(mode="json", exclude={"currency"})  # no prepared row depends on its name
    _forget_defaults(settings)
    told = [{name: feature.model_dump() for name, feature in features.items()}] if features else []
    print_of_inputs = artifacts.fingerprint(FORMAT, settings, *told, *inputs)
    split = logs.effective_split.model_dump(mode="json")
    return {"step": "prepare", "source": logs.source, "split": split, "fingerprint": print_of_inputs}


def _forget_defaults(settings: dict[str, Any]) -> None:
    """Take out what was no setting once: a log that leaves it at its default keeps the fingerprint it had."""
    if settings["value"] == LogsConfig.model_fields["value"].default:
        del settings["value"]
    for name in ("impressions", "impression_weight", "nobody_words", "users"):
        if settings["files"] and settings["files"][name] == FilesConfig.model_fields[name].default:
            del settings["files"][name]
    if settings["sequences"] and settings["sequences"]["without_last"] == 0:
        del settings["sequences"]["without_last"]


def _prepare(
    logs: LogsConfig, source: Source, inputs: list[Path], staging: Path, runner: Runner, features: Features
) -> Account:
    for name in (EVENTS, SEQUENCES, QUARANTINE, SPILL):
        (staging / name).mkdir()
    account = Account(tells_time=source.tells_time, files_read=len(inputs))
    account.bytes_read = sum(path.stat().st_size for path in inputs)
    latest_ms = time.time_ns() // 1_000_000
    stage = succeeded(runner.once(partial(answered, partial(source.stage, staging))))
    account.catalogue = stage["catalogue"]
    account.add({"source": stage["source"]})
    refuse_bad_catalogue(account.catalogue, logs, staging)
    check_items(features, staging / CATALOGUE_FILE)
    account.add(succeeded(runner.once(partial(answered, partial(weigh_catalogue, staging)))))
    read = partial(answered, partial(read_share, source, logs, staging, latest_ms))
    for counts in runner.each(source.shares(), read, "read_validate_spill"):
        account.add(succeeded(counts))
    if source.tells_time:
        refuse_wrong_unit(account.units, source.timestamp_unit, f"logs.{logs.source}.events.timestamp_unit", latest_ms)
    refuse_bad_log(account, logs, staging)
    schema = load_rules(source, staging, latest_ms).schema
    assemble = partial(_pieces, staging / SPILL, schema=schema, split=logs.effective_split, target=staging)
    for answer in runner.each(logs.shards, partial(answered, assemble), "order_deduplicate_split"):
        for counts in succeeded(answer)["pieces"]:
            account.add(counts)
    refuse_bad_log(account, logs, staging)  # again: an id met twice is seen only where a user's rows are together
    target = "click" if account.training["click"] and not account.training["conversion"] else "conversion"
    succeeded(runner.once(partial(answered, partial(summarise_trends, staging, target))))
    if account.actions["impression"]:
        account.impressions, account.impression_weight = source.impressions, source.impression_weight
    account.check()
    if account.span:
        refuse_empty_parts(account.splits, logs.effective_split, account.span)
    if logs.value == "ecpm":
        account.value, account.ecpm_rates = "ecpm", _value_targets(account, source, staging, target, runner)
    if told(features):
        print(fit_told(staging, staging / SPILL, staging / CATALOGUE_FILE, features, runner))
    shutil.rmtree(staging / SPILL)
    artifacts.write_json(staging / ACCOUNT, account.to_dict())
    return account


def _value_targets(account: Account, source: Source, staging: Path, target: str, runner: Runner) -> dict[str, Any]:
    """Give every target the expected money of a thousand impressions; returns what the account tells of the rates."""
    if not account.training["impression"]:
        raise UserError(
            "needs impressions, and the training split holds none",
            field="logs.value",
            value="ecpm",
            remedy="map the log's word for them in logs.files.events.values.action, or set logs.value: price_or_bid",
        )
    parts = len(list((staging / SEQUENCES).glob("*.parquet")))
    count = partial(answered, partial(count_shard, staging, source.impression_weight, target))
    for counts in runner.each(parts, count, "count_impressions"):
        succeeded(counts)
    fitted = succeeded(runner.once(partial(answered, partial(fit_rates, staging, target))))
    for written in runner.each(parts, partial(answered, partial(write_shard, staging)), "write_target_values"):
        succeeded(written)
    return fitted


def read_share(source: Source, logs: LogsConfig, staging: Path, latest_ms: int, share: int) -> dict[str, Any]:
    """Read and validate one share of the log: clean events to the spill, bad rows to quarantine; returns its counts."""
    rules = load_rules(source, staging, latest_ms)
    spill = Spill(staging / SPILL, share, logs.shards, rules.schema)
    rows, reasons, notes, units = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    refused = Quarantine(staging / QUARANTINE / f"share-{share:06d}.parquet")
    for chunk in source.read(share, staging):
        clean, bad = _judge(chunk, rules, notes)
        units.update(_unit_of(chunk, rules))
        rows.update(rows_in=chunk.rows_in, more_events=chunk.more_events, without_event=chunk.without_event)
        reasons.update(bad["reason"].to_pylist())
        notes.update(dict(chunk.notes))
        refused.write(bad)
        spill.write(clean)
    spill.close()
    refused.close()
    return {**rows, "reasons": reasons, "source": notes, "units": units}


def _pieces(spill: Path, shard: int, **rest: Any) -> dict[str, Any]:
    return {"pieces": assemble_shard(spill, shard, **rest)}


def _unit_of(chunk: Chunk, rules: EventRules) -> list[str]:
    moments = whole_column(chunk.table, "timestamp")
    unit = plausible_unit(moments, rules.timestamp_unit, rules.latest_ms, rules.timezone)
    return [unit] if unit else []


def summarise_trends(staging: Path, target: str) -> dict[str, Any]:
    """Write what was trending in every hour, from the counts that the shards left beside the spill."""
    return write_trending((staging / SPILL).glob(f"{target}s-*.parquet"), staging / TRENDING_FILE)


def weigh_catalogue(staging: Path) -> dict[str, Any]:
    """The money that the staged catalogue names."""
    items = pq.read_table(staging / CATALOGUE_FILE, columns=["item_id", "price", "ecpm"])
    return {"money": weigh(items, ("price", "ecpm"), ("item_id",), prefix="catalogue ")}


def load_rules(source: Source, staging: Path, latest_ms: int) -> EventRules:
    """The rules for a source whose catalogue has been staged."""
    items = pq.read_table(staging / CATALOGUE_FILE, columns=["item_id", "kind"])
    ids, kinds = (items[name].combine_chunks() for name in ("item_id", "kind"))
    nobody = nobody_set(source.nobody_words)
    of_times = source.timezone
    return EventRules(source.timestamp_unit, latest_ms, ids, kinds, source.features, nobody, of_times, source.told)


def refuse_bad_log(account: Account, logs: LogsConfig, staging: Path) -> None:
    """Raise UserError when the log is empty or more of it is bad than `max_quarantined` allows."""
    if not account.rows_in:
        raise UserError("the log is empty", field=f"logs.{logs.source}", remedy="check the files it names")
    if not account.events_in:
        raise UserError("no row has an action", field="logs.files.events.actions", remedy="check the columns it names")
    if account.quarantined <= logs.max_quarantined * account.events_in and account.quarantined < account.events_in:
        return
    worst = account.reasons.most_common(1)[0][0]
    remedy = _ONE_ID_MANY_EVENTS if worst == EVENT_ID_TAKEN else "mend the log or raise the limit"
    what = "rows" if account.events_in == account.rows_in else "events"
    said = f"{account.quarantined:,} of {account.events_in:,} {what} are bad"
    if worst == NOT_IN_CATALOGUE:
        remedy = f"{unmatched(_examples(staging, worst), staging / CATALOGUE_FILE)}; {remedy}"
    raise _too_bad(said, account.reasons, logs, remedy, without_people(next(iter(_examples(staging, worst)), "")))


def refuse_bad_catalogue(counts: dict[str, Any], logs: LogsConfig, staging: Path) -> None:
    """Raise UserError when more of the catalogue is bad than `max_quarantined` allows."""
    bad, repeats = counts.get("quarantined", 0), counts.get("duplicates", 0) + counts.get("older_versions", 0)
    rows_in = counts["rows_in"] - repeats  # snapshots of many days must not hide that many items are bad
    if bad <= logs.max_quarantined * rows_in:
        return
    rows = pq.read_table(staging / CATALOGUE_QUARANTINE)
    reasons = Counter(rows["reason"].to_pylist())
    said = f"{bad:,} of {rows_in:,} {'different ' if repeats else ''}rows of the catalogue are bad"
    remedy = "mend the catalogue or raise the limit"
    if reasons[SEVERAL_ROWS]:
        remedy = f"{remedy_for_several(_newest_by(logs))}; {remedy}"
    raise _too_bad(said, reasons, logs, remedy, str(rows["row"][0]))


def _newest_by(logs: LogsConfig) -> str | None:
    table = logs.files.catalogue if logs.files else logs.sequences.items if logs.sequences else None
    return table.newest_by if table else None


def _too_bad(said: str, reasons: Counter[str], logs: LogsConfig, remedy: str, example: str) -> UserError:
    most = ", ".join(f"{count:,} x {reason}" for reason, count in reasons.most_common(5))
    return UserError(
        f"{said} ({most})",
        field="logs.max_quarantined",
        value=logs.max_quarantined,
        remedy=f"{with_encoding(remedy, reasons)}; a bad row: {example}",
    )


def _examples(staging: Path, reason: str) -> list[str]:
    """Rows of the log that were quarantined for `reason`, as JSON: those of the first file that has any."""
    for file in sorted((staging / QUARANTINE).glob("sha*.parquet")):
        rows = pq.read_table(file, filters=[("reason", "=", reason)])
        if rows.num_rows:
            return [str(row) for row in rows["row"].slice(0, 1000)]
    return []


def _judge(chunk: Chunk, rules: EventRules, notes: Counter[str]) -> tuple[pa.Table, pa.Table]:
    malformed = malformed_rows(chunk.malformed)
    if not chunk.table.num_rows:
        return rules.schema.empty_table(), malformed
    clean, bad = validate_events(chunk.table, rules, notes)
    return clean, pa.concat_tables([bad, malformed]).cast(QUARANTINE_SCHEMA)
