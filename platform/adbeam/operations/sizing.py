"""Sizing: from measurements to machines, the arithmetic of docs/sizing.md.

Rates are what you measured on your hardware (`adbeam loadtest`, the training log). The defaults for bytes were measured
on this code: the trie at 4 million random ads with the paper's codebooks, log shards on the Complete Journey log.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import Field

from adbeam.errors import UserError, nearest_name
from adbeam.settings import Section

SECONDS_A_DAY = 86_400
GIB = 1 << 30


class Load(Section):
    """What the platform must carry."""

    ads: float = Field(25e6, gt=0, description="Live ads.")
    users: float = Field(400e6, gt=0, description="Users with a history.")
    events_per_day: float = Field(1e9, gt=0)
    history_events: float = Field(200, gt=0, description="Mean events kept for a user.")
    requests_per_second: float = Field(20_000, gt=0, description="Ad requests at the usual peak.")
    spike: float = Field(3.0, ge=1, description="Load of a spike over the usual peak.")
    event_id_seconds: float = Field(
        3600, gt=0, description="How long Redis remembers ids: store.redis.event_id_seconds."
    )
    log_days: float = Field(60, gt=0, description="Days of log kept prepared for training.")


class Measured(Section):
    """What one unit does, measured on your hardware."""

    replica_requests_per_second: float = Field(
        500, gt=0, description="At full width within the deadline; 500 is GR4AD's figure for one L20."
    )
    narrowest_speedup: float = Field(4.0, ge=1, description="Requests at the floor of the ladder over those at full.")
    training_requests_per_second: float = Field(2_000, gt=0, description="Of one GPU.")
    prepare_events_per_second: float = Field(20_000, gt=0, description="Of one core.")
    parameters: float = Field(164e6, gt=0, description="Of the model; `paper` has 164 million.")
    trie_bytes_per_ad: float = 18.0
    catalogue_bytes_per_ad: float = Field(400.0, description="Titles, values and lookups in a replica's memory.")
    shard_bytes_per_event: float = Field(20.0, description="Events and sequences in Parquet: 13 and 7 bytes.")
    store_bytes_per_event: float = Field(34.0, description="22 bytes of arrays and an item id.")
    event_id_bytes: float = Field(160.0, description="Of Redis for one remembered id of 32 characters.")


class Targets(Section):
    """How hard machines may be driven."""

    utilisation: float = Field(0.6, gt=0, le=1, description="Of a replica, at full width and the usual peak.")
    training_hours: float = Field(4.0, gt=0, description="For a day's requests.")
    requests_per_event: float = Field(0.1, gt=0, description="Requests to learn from, for one event of the log.")
    replicas_per_node: float = Field(8, gt=0, description="One a GPU, or cores over num_cpus.")
    redis_gib: float = Field(64, gt=0, description="Data that one Redis server may hold.")
    prepare_hours: float = Field(2.0, gt=0, description="For a day's events.")


def machines(load: Load, measured: Measured, targets: Targets) -> dict[str, float]:
    """What is needed, by name: replicas, GPUs, cores, and GiB of memory and disk."""
    replicas = math.ceil(load.requests_per_second / measured.replica_requests_per_second / targets.utilisation)
    daily_requests = load.events_per_day * targets.requests_per_event
    training_rate = daily_requests / (targets.training_hours * 3600)
    history_gib = load.users * load.history_events * measured.store_bytes_per_event / GIB
    id_gib = load.events_per_day / SECONDS_A_DAY * load.event_id_seconds * measured.event_id_bytes / GIB
    prepare_rate = load.events_per_day / (targets.prepare_hours * 3600)
    return {
        "replicas_at_peak": replicas,
        "spike_carried_by_beams": replicas * measured.replica_requests_per_second * measured.narrowest_speedup
        / (load.requests_per_second * load.spike),
        "replicas_for_a_spike_at_full_width": math.ceil(
            load.requests_per_second * load.spike / measured.replica_requests_per_second / targets.utilisation
        ),
        "replica_memory_gib": (
            load.ads * (measured.trie_bytes_per_ad + measured.catalogue_bytes_per_ad) + 2 * measured.parameters
        ) / GIB,
        "serving_nodes": math.ceil(replicas / targets.replicas_per_node),
        "history_store_gib": history_gib,
        "event_ids_gib": id_gib,
        "redis_servers": math.ceil((history_gib + id_gib) / targets.redis_gib),
        "events_per_second": load.events_per_day / SECONDS_A_DAY,
        "prepare_cores": math.ceil(prepare_rate / measured.prepare_events_per_second),
        "log_disk_gib": load.events_per_day * load.log_days * measured.shard_bytes_per_event / GIB,
        "training_gpus": math.ceil(training_rate / measured.training_requests_per_second),
        "optimiser_state_gib": 16 * measured.parameters / GIB,
    }  # fmt: skip


def table(figures: Mapping[str, float]) -> str:
    """The figures as a Markdown table."""
    lines = ["| figure | value |", "| --- | --- |"]
    return "\n".join(lines + [f"| {name.replace('_', ' ')} | {value:,.4g} |" for name, value in figures.items()])


def main() -> None:
    """`python -m adbeam.operations.sizing requests_per_second=5000 parameters=3e7`: print the figures."""
    import sys

    import yaml

    given = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in sys.argv[1:])}
    given = {key: float(value) for key, value in given.items()}
    sections: list[Section] = []
    for section in (Load, Measured, Targets):
        own = {key: given.pop(key) for key in list(given) if key in section.model_fields}
        sections.append(section.parse(own, source="arguments"))
    for key in given:
        names = [name for section in (Load, Measured, Targets) for name in section.model_fields]
        near = nearest_name(key, names)
        raise UserError("no such quantity", field=key, remedy=f"did you mean {near!r}?")
    load, measured, targets = sections
    assert isinstance(load, Load) and isinstance(measured, Measured) and isinstance(targets, Targets)
    print(table(machines(load, measured, targets)))


if __name__ == "__main__":
    main()
