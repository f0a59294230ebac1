"""The online loop: what answers are worth, what comes back as events, and which model is in force."""

from __future__ import annotations

from adbeam.dashboards.panels import Dashboard, Panel, Query, Row
from adbeam.dashboards.queries import APPLICATION, faults, rate

_A = '{application=~"$application"}'


def _expected_over_returned(by: str) -> str:
    parts = (f"sum by ({by}) (increase(ray_adbeam_money_{part}_total{_A}[1d]))" for part in ("expected", "returned"))
    return " / ".join(parts)


_VALUE = Row(
    "Value",
    (
        Panel(
            "Expected value per second",
            "Sum of the expected eCPM of all ads sent.",
            (Query(rate("expected_ecpm"), "expected eCPM"),),
            width=12,
        ),
        Panel(
            "Requests decoded by the model",
            "The rest got a cached or popular answer, which earns less and teaches nothing.",
            (
                Query(
                    f'sum (rate(ray_adbeam_requests_total{{source="model", application=~"$application"}}'
                    f"[$__rate_interval])) / {rate('requests')}",
                    "model",
                ),
            ),
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Expected over returned money",
            "By scene, over a day: what shown ads were expected to bring over what their posted conversions brought, "
            "of answers whose window has ended. 1 is calibrated.",
            (Query(_expected_over_returned("scene"), "{{scene}}"),),
            width=12,
        ),
        Panel(
            "Expected over returned money, by model",
            "The same by the version of the model that answered.",
            (Query(_expected_over_returned("model_version"), "{{model_version}}"),),
            width=12,
        ),
        Panel(
            "Expected and returned money",
            "A day's sums, of the events that reached the replica that answered.",
            (
                Query(f"sum(increase(ray_adbeam_money_expected_total{_A}[1d]))", "expected"),
                Query(f"sum(increase(ray_adbeam_money_returned_total{_A}[1d]))", "returned"),
            ),
            width=12,
        ),
        Panel(
            "Conversions behind the returned money",
            "A day's conversions by scene: with few of them the ratio says little.",
            (Query(f"sum by (scene) (increase(ray_adbeam_money_conversions_total{_A}[1d]))", "{{scene}}"),),
            width=12,
        ),
    ),
)

_EVENTS = Row(
    "Events",
    (
        Panel(
            "Events per second",
            "Impressions, clicks and conversions posted back. `duplicate` is a client that sends again.",
            (Query(rate("events", "result"), "{{result}}"),),
            unit="reqps",
        ),
        Panel(
            "Events per request",
            "What comes back for a request; a fall means a broken tracker, or ads nobody wants.",
            (Query(f"{rate('events')} / {rate('requests')}", "events"),),
        ),
        Panel(
            "Event rows lost",
            "Rows of the event log that were removed before the online loop read them, since the replicas started.",
            (Query(f"sum (ray_adbeam_event_log_dropped_rows{_A}) or vector(0)", "lost"),),
        ),
    ),
)

_MODEL = Row(
    "Model in force",
    (
        Panel(
            "Age of the model",
            "Time since each replica loaded its bundle. Two versions for long: a replica refuses the new one.",
            (Query(f"max by (version) (ray_adbeam_model_age_seconds{_A})", "{{version}}"),),
            unit="s",
        ),
        Panel(
            "Bundles taken and refused",
            "A refused bundle is corrupt or of another shape; the old one stays in force.",
            (Query(f"sum by (result) (increase(ray_adbeam_bundle_swaps_total{_A}[1h])) or vector(0)", "{{result}}"),),
        ),
        Panel(
            "Offline quality of the newest bundle",
            "From the newest evaluation.",
            (Query("adbeam_evaluation", "{{metric}}"),),
            needs="steps",
        ),
        Panel(
            "Client retries and failures",
            "Store failures and cancelled requests: the online side of the loop.",
            (
                Query(faults("store_failures"), "store failures"),
                Query(faults("cancelled"), "cancelled"),
            ),
            unit="reqps",
        ),
    ),
)

_ROUNDS = Row(
    "Continual training",
    (
        Panel(
            "Rounds by verdict",
            "Published, refused by the gate, stopped by a rail, or waiting for more samples.",
            (Query("adbeam_online_rounds", "{{verdict}}"),),
            needs="steps",
        ),
        Panel(
            "Feedback by account",
            "Used; pending until its request is known; expired after the window; orphans that fit no request.",
            (Query("adbeam_online_events", "{{state}}"),),
            needs="steps",
        ),
        Panel(
            "Gate of the newest round",
            "New model minus the one in force on held-out requests, with the lower bounds that decide.",
            (Query("adbeam_online_gate", "{{figure}}"),),
            needs="steps",
        ),
        Panel(
            "Reward model",
            "AUC and calibration on the test split; predicted over observed is 1 when calibrated.",
            (Query("adbeam_reward", "{{metric}}"),),
            needs="steps",
        ),
    ),
)

ONLINE = Dashboard(
    "adbeam-online",
    "adbeam online loop and value",
    "Expected value of the answers, events that come back, and the model in force.",
    (_VALUE, _EVENTS, _MODEL, _ROUNDS),
    (APPLICATION,),
)
