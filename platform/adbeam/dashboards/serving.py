"""The serving dashboard, from the top: what comes in, what gives way, who does the work, what breaks."""

from __future__ import annotations

from adbeam.dashboards.panels import Dashboard, Panel, Query, Row
from adbeam.dashboards.queries import (
    APPLICATION,
    REPLICAS,
    by_feature,
    faults,
    gauge,
    mean,
    off_training,
    quantile,
    rate,
)

_DECODING = f"sum (rate(ray_adbeam_decode_seconds_sum{REPLICAS}[$__rate_interval]))"

_LOAD = Row(
    "Load and answers",
    (
        Panel(
            "Requests per second",
            "Ad requests by what answered them. `fallback` and `cache` during a spike are answers without a decode.",
            (Query(rate("requests", "source"), "{{source}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Latency",
            "From arrival in the replica to the answer, all sources.",
            tuple(
                Query(quantile(share, "request_latency_seconds"), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)
            ),
            unit="s",
        ),
        Panel(
            "HTTP status",
            "Answers by status. 503 is shed load, 422 a bad request.",
            (Query(rate("responses", "status"), "{{status}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Answers without a decode",
            "Share of requests answered from cache or fallback because of deadline or queue.",
            (Query(f"({faults('degraded')}) / {rate('requests')}", "degraded"),),
            unit="percentunit",
        ),
        Panel(
            "Value per request",
            "Expected eCPM of the ads in an answer of the model: what a narrower beam costs.",
            (Query(f"{rate('expected_ecpm')} / {rate('requests')}", "expected eCPM"),),
        ),
        Panel(
            "Answered from cache",
            "Results found again in the cache, as a share of requests.",
            (Query(f"({faults('cache_hits')}) / {rate('requests')}", "cache hits"),),
            unit="percentunit",
        ),
    ),
)

_BEAMS = Row(
    "Beams",
    (
        Panel(
            "Beam width in force",
            "Beams of the last level at the rung in force: widest and narrowest replica, and the mean a request got.",
            (
                Query(gauge("max", "rung_width"), "widest"),
                Query(gauge("min", "rung_width"), "narrowest"),
                Query(mean("beam_width"), "mean of requests"),
            ),
        ),
        Panel(
            "Rung of the ladder",
            "0 is the widest. A rung above 0 that lasts means too few replicas.",
            (Query(f"ray_adbeam_rung{REPLICAS}", "{{replica}}"),),
        ),
        Panel(
            "Widths of requests",
            "How many requests got which width.",
            (Query(f"sum by (le) (increase(ray_adbeam_beam_width_bucket{REPLICAS}[$__rate_interval]))", "{{le}}"),),
            kind="heatmap",
        ),
        Panel(
            "Rung changes per second",
            "Moves of the controllers. Steady moves under steady load are an oscillation.",
            (Query(faults("rung_changes"), "changes"),),
        ),
        Panel(
            "Measured over modelled cost",
            "1 when the cost model is right; above, batches take longer than the controller plans for.",
            (Query(f"ray_adbeam_cost_factor{REPLICAS}", "{{replica}}"),),
        ),
        Panel(
            "Decode",
            "Duration of a batch.",
            tuple(Query(quantile(share, "decode_seconds"), f"p{share * 100:g}") for share in (0.5, 0.95)),
            unit="s",
        ),
        Panel(
            "Time off the processor",
            "Off the processor: share of the decode time ready to run and without a processor, which the cost of beams "
            "does not learn. Pressure: time in which anything on the machine waited so. Steal: the hypervisor's.",
            (
                Query(f"({faults('decode_off_cpu_seconds')}) / {_DECODING}", "off the processor"),
                Query(gauge("max", "cpu_pressure_share"), "pressure, worst"),
                Query(gauge("max", "cpu_steal_share"), "steal, worst"),
            ),
            unit="percentunit",
        ),
    ),
)

_REPLICAS = Row(
    "Replicas",
    (
        Panel(
            "Demand at full width against replicas",
            "Replicas that the arrivals would keep busy at full width, and the replicas there are. Where demand is "
            "above, beams give way until the autoscaler has caught up.",
            (
                Query(gauge("sum", "demand_full_width"), "demand at full width"),
                Query(gauge("count", "rung"), "replicas"),
            ),
            width=12,
        ),
        Panel(
            "Utilisation",
            "Share of time a replica is busy at the rung in force.",
            (Query(f"ray_adbeam_utilisation{REPLICAS}", "{{replica}}"),),
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Waiting and in flight",
            "Requests waiting for a decode, and inside the replicas.",
            (Query(gauge("sum", "queue_depth"), "waiting"), Query(gauge("sum", "in_flight"), "in flight")),
        ),
        Panel(
            "Queue delay",
            "From arrival to the start of the decode.",
            tuple(Query(quantile(share, "queue_delay_seconds"), f"p{share * 100:g}") for share in (0.5, 0.99)),
            unit="s",
        ),
        Panel(
            "Requests decoded together",
            "Mean batch.",
            (Query(mean("batch_size"), "batch"),),
        ),
        Panel(
            "Arrivals as the controllers see them",
            "Per replica; the load balancer should keep them level.",
            (Query(f"ray_adbeam_arrivals_per_second{REPLICAS}", "{{replica}}"),),
            unit="reqps",
        ),
        Panel(
            "Memory of the nodes",
            "Used memory of every Ray node.",
            (Query("ray_node_mem_used", "{{instance}}"),),
            unit="bytes",
        ),
        Panel(
            "CPU of the nodes",
            "Per cent of all cores of a node.",
            (Query("ray_node_cpu_utilization", "{{instance}}"),),
            unit="percent",
        ),
    ),
)

_FEATURES = Row(
    "Declared features",
    (
        Panel(
            "Features without a value",
            "Share of decoded requests that neither tell a declared feature nor have it in the profile of their user. "
            "A step says that a caller changed.",
            (Query(by_feature("feature_missing"), "{{feature}}"),),
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Features whose profile could not be read",
            "Share of decoded requests. No ad that asks for such a feature is shown to them.",
            (Query(by_feature("feature_unread"), "{{feature}}"),),
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Features whose words the model does not know",
            "Share of decoded requests with a word that the training split lacked. A rising share says that what is "
            "told has drifted from training.",
            (Query(by_feature("feature_unknown"), "{{feature}}"),),
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Features against training",
            "Share of requests without a value, and with an unknown word, less those of training requests. Far from 0 "
            "the model hears what it was not trained on.",
            (
                Query(off_training("missing"), "{{feature}} missing"),
                Query(off_training("unknown"), "{{feature}} unknown"),
            ),
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Profiles posted",
            "stored, removed (an empty one), nobody (not kept), forgotten (deleted with the history).",
            (Query(faults("profiles", "result"), "{{result}}"),),
            unit="reqps",
            width=12,
        ),
        Panel(
            "Fields of bid requests that could not be read",
            "By place. What cannot be read counts as missing.",
            (Query(faults("bid_fields_unread", "field"), "{{field}}"),),
            unit="reqps",
            width=12,
        ),
    ),
)

_FAULTS = Row(
    "Faults",
    (
        Panel(
            "Answers without a decode, by reason",
            "late: the deadline came first. queue_full: the queue was at its bound.",
            (Query(faults("degraded", "reason"), "{{reason}}"),),
            unit="reqps",
        ),
        Panel(
            "Deadline misses",
            "Requests that no decode could answer in time.",
            (Query(faults("deadline_misses"), "misses"),),
            unit="reqps",
        ),
        Panel(
            "Shed",
            "Requests refused with 503.",
            (Query(faults("shed", "reason"), "{{reason}}"),),
            unit="reqps",
        ),
        Panel(
            "Clients that went away",
            "Requests cancelled before their answer.",
            (Query(faults("cancelled"), "cancelled"),),
            unit="reqps",
        ),
        Panel(
            "History store failures",
            "Failed reads and writes. Reads fail into cold-start answers.",
            (Query(faults("store_failures", "operation"), "{{operation}}"),),
            unit="reqps",
        ),
        Panel(
            "Bids at their bounds",
            "capped: at openrtb.price_max_cpm. below_floor: not made, for openrtb.price_min_cpm. Many of either say "
            "that the prices of the model are no CPM.",
            (Query(faults("bids_bounded", "reason"), "{{reason}}"),),
            unit="reqps",
        ),
    ),
)

_RULES = Row(
    "Rules of answers",
    (
        Panel(
            "Ads left out, by rule",
            "Found ads that rules of lists or a floor passed over, and ads that targeting, filters, caps and budgets "
            "closed for a search.",
            (Query(faults("ads_left_out", "rule"), "{{rule}}"),),
        ),
        Panel(
            "Paused campaigns",
            "Campaigns whose budget is spent for now, by the replica that knows of most.",
            (Query(f"{gauge('max', 'campaigns_paused')} or vector(0)", "paused"),),
        ),
    ),
)

SERVING = Dashboard(
    "adbeam-serving",
    "adbeam serving",
    "Load, beam widths, replicas and faults of the recommender.",
    (_LOAD, _BEAMS, _REPLICAS, _FEATURES, _FAULTS, _RULES),
    (APPLICATION,),
)
