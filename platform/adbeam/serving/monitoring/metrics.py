"""What a replica tells Prometheus: base units, no user ids, every name starting with `adbeam_`.

Recording a request must cost next to nothing, so values are gathered in memory and handed to Ray's metrics by `flush`,
which the replica calls a few times a second from a thread of its own.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any, Literal

Kind = Literal["counter", "gauge", "histogram"]
Tags = tuple[tuple[str, str], ...]

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
WIDTHS = (1, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)

METRICS: dict[str, tuple[Kind, str, tuple[str, ...], tuple[float, ...]]] = {
    "adbeam_request_latency_seconds": ("histogram", "From arrival in the replica to the answer.", ("source",), SECONDS),
    "adbeam_queue_delay_seconds": ("histogram", "From arrival to the start of the decode.", (), SECONDS),
    "adbeam_decode_seconds": ("histogram", "Duration of a batch.", (), SECONDS),
    "adbeam_decode_off_cpu_seconds": ("counter", "Time of batches ready to run and without a processor.", (), ()),
    "adbeam_batch_size": ("histogram", "Requests decoded together.", (), SIZES),
    "adbeam_beam_width": ("histogram", "Beams of the last level, a request.", (), WIDTHS),
    "adbeam_responses": ("counter", "Answers by route and HTTP status.", ("route", "status"), ()),
    "adbeam_requests": ("counter", "Ad requests by what answered them.", ("source",), ()),
    "adbeam_degraded": (
        "counter",
        "Answers from cache or fallback because of the deadline or the queue.",
        ("reason",),
        (),
    ),
    "adbeam_deadline_misses": ("counter", "Requests that no decode could answer in time.", (), ()),
    "adbeam_shed": ("counter", "Requests refused with 503.", ("reason",), ()),
    "adbeam_cancelled": ("counter", "Requests whose client went away.", (), ()),
    "adbeam_cache_hits": ("counter", "Answers taken from the result cache.", (), ()),
    "adbeam_ads_left_out": (
        "counter",
        "Ads that rules and filters kept out of answers.",
        ("rule",),
        (),
    ),
    "adbeam_caps_unread": (
        "counter",
        "Answers to users whose frequency caps could not be read: show or withhold.",
        ("then",),
        (),
    ),
    "adbeam_expected_ecpm": ("counter", "Sum of the expected eCPM of the ads in answers of the model.", (), ()),
    "adbeam_money_expected": (
        "counter",
        "Expected money (expected eCPM / 1000) of posted impressions, of answers whose window has ended.",
        ("scene", "model_version"),
        (),
    ),
    "adbeam_money_returned": (
        "counter",
        "Money of posted conversions of the same answers.",
        ("scene", "model_version"),
        (),
    ),
    "adbeam_money_conversions": (
        "counter",
        "Posted conversions of the same answers.",
        ("scene", "model_version"),
        (),
    ),
    "adbeam_bids_bounded": (
        "counter",
        "Bids at the operator's ceiling (capped), or not made: below_floor, no_unit (no CPM is known), seat, deal, "
        "format, currency, taxonomy, supply_chain.",
        ("reason",),
        (),
    ),
    "adbeam_bid_fields_unread": ("counter", "Fields of bid requests that could not be read.", ("field",), ()),
    "adbeam_feature_requests": ("counter", "Decoded requests, by declared feature they might tell.", ("feature",), ()),
    "adbeam_feature_missing": ("counter", "Those without a value, told or kept.", ("feature",), ()),
    "adbeam_feature_unknown": ("counter", "Those that tell a word which the model does not know.", ("feature",), ()),
    "adbeam_feature_unread": ("counter", "Those whose user's profile could not be read.", ("feature",), ()),
    "adbeam_forbidden_users": (
        "counter",
        "Requests, events and profiles whose person's signals forbid to look them up, by reason.",
        ("reason",),
        (),
    ),
    "adbeam_feature_trained_share": (
        "gauge",
        "Share of training requests without a value (missing) or with an unknown word (unknown).",
        ("feature", "what"),
        (),
    ),
    "adbeam_events": ("counter", "Posted events.", ("result",), ()),
    "adbeam_profiles": (
        "counter",
        "Profiles stored, removed, of nobody, forbidden, or forgotten.",
        ("result",),
        (),
    ),
    "adbeam_store_failures": (
        "counter",
        "Reads or writes of the history store that failed; operation log: of the event log.",
        ("operation",),
        (),
    ),
    "adbeam_bundle_swaps": ("counter", "New bundles taken or refused.", ("result",), ()),
    "adbeam_rung_changes": ("counter", "Moves of the beam controller.", (), ()),
    "adbeam_rung": ("gauge", "Rung in force, 0 the widest.", (), ()),
    "adbeam_rung_width": ("gauge", "Beams of the last level at the rung in force.", (), ()),
    "adbeam_queue_depth": ("gauge", "Requests waiting for a decode.", (), ()),
    "adbeam_campaigns_paused": ("gauge", "Campaigns whose budget is spent for now.", (), ()),
    "adbeam_in_flight": ("gauge", "Requests inside the replica.", (), ()),
    "adbeam_arrivals_per_second": ("gauge", "Arrival rate as the controller sees it.", (), ()),
    "adbeam_demand_full_width": ("gauge", "Replicas that the arrivals would keep busy at full width.", (), ()),
    "adbeam_utilisation": ("gauge", "Share of time busy at the rung in force.", (), ()),
    "adbeam_cost_factor": ("gauge", "Measured over modelled batch time.", (), ()),
    "adbeam_cpu_pressure_share": ("gauge", "Share of time in which something ready to run had no processor.", (), ()),
    "adbeam_cpu_steal_share": ("gauge", "Share of busy time that the hypervisor gave to other machines.", (), ()),
    "adbeam_model_age_seconds": ("gauge", "Time since the bundle was loaded.", ("version",), ()),
    "adbeam_ad_updates_watermark": ("gauge", "Newest ad update that this replica has applied.", (), ()),
    "adbeam_ad_updates_skipped": ("gauge", "Ad updates that could not be applied since the bundle came.", (), ()),
    "adbeam_ad_updates_age_seconds": ("gauge", "Time since the update log was last read to its end.", (), ()),
    "adbeam_request_log_dropped_rows": ("gauge", "Request rows lost: not written, or removed unread.", (), ()),
    "adbeam_event_log_dropped_rows": ("gauge", "Event rows lost: removed before they were read.", (), ()),
}


class Metrics:
    """Gathers values; `flush` passes them on to Ray."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, Tags], float] = defaultdict(float)
        self._observed: list[tuple[str, Tags, float]] = []
        self._gauges: dict[tuple[str, Tags], float] = {}
        self._ray: dict[str, Any] = {}

    def add(self, name: str, value: float = 1.0, **tags: str) -> None:
        """Raise a counter; Ray refuses to raise one by nothing."""
        if value <= 0:
            return
        with self._lock:
            self._counts[name, tuple(tags.items())] += value

    def observe(self, name: str, value: float, **tags: str) -> None:
        """One observation of a histogram."""
        with self._lock:
            self._observed.append((name, tuple(tags.items()), value))

    def set(self, name: str, value: float, **tags: str) -> None:
        """The present value of a gauge."""
        with self._lock:
            self._gauges[name, tuple(tags.items())] = value

    def take(
        self,
    ) -> tuple[dict[tuple[str, Tags], float], list[tuple[str, Tags, float]], dict[tuple[str, Tags], float]]:
        """Counts, observations and gauges gathered since the last time; they are kept no longer."""
        with self._lock:
            counts, self._counts = self._counts, defaultdict(float)
            observed, self._observed = self._observed, []
            gauges, self._gauges = self._gauges, {}
        return counts, observed, gauges

    def flush(self) -> None:
        """Hand everything gathered to Ray's metrics."""
        counts, observed, gauges = self.take()
        for (name, tags), value in counts.items():
            self._metric(name).inc(value, tags=dict(tags))
        for name, tags, value in observed:
            self._metric(name).observe(value, tags=dict(tags))
        for (name, tags), value in gauges.items():
            self._metric(name).set(value, tags=dict(tags))

    def _metric(self, name: str) -> Any:
        if name not in self._ray:
            from ray.serve import metrics as ray_metrics

            kind, description, tags, boundaries = METRICS[name]
            tag_keys: Any = tags  # Ray annotates a tuple of one
            if kind == "counter":
                self._ray[name] = ray_metrics.Counter(name, description=description, tag_keys=tag_keys)
            elif kind == "gauge":
                self._ray[name] = ray_metrics.Gauge(name, description=description, tag_keys=tag_keys)
            else:
                self._ray[name] = ray_metrics.Histogram(
                    name, description=description, boundaries=list(boundaries), tag_keys=tag_keys
                )
        return self._ray[name]
