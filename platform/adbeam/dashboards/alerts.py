"""Alert rules. Each says what is wrong for users and points at the page that says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

GUIDE = "docs/operate.md"


@dataclass(frozen=True)
class Alert:
    """One rule: `expr` true for `hold` fires `name`. `page` wakes somebody, `ticket` waits for the morning."""

    name: str
    expr: str
    hold: str
    severity: Literal["page", "ticket"]
    summary: str

    @property
    def anchor(self) -> str:
        """The heading of its page in the operator's guide."""
        return self.name.lower()

    def rule(self) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.hold,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "runbook": f"{GUIDE}#{self.anchor}"},
        }


def _share(part: str, window: str = "5m") -> str:
    requests = f"sum(rate(ray_adbeam_requests_total[{window}]))"
    return f"sum(rate({part}[{window}])) / {requests}"


DRIFT = 0.405
"""ln(1.5): how far expected and returned money may lie apart."""


def _of_a_day(part: str) -> str:
    return f"sum by (scene, model_version) (increase(ray_adbeam_money_{part}_total[1d]))"


def _of_an_hour(what: str) -> str:
    return f"sum by (feature) (rate(ray_adbeam_feature_{what}_total[1h]))"


def _told_drift(what: str) -> str:
    """By how much the share of requests without a value, or with an unknown word, lies off that of training."""
    requests = _of_an_hour("requests")
    trained = f'max by (feature) (ray_adbeam_feature_trained_share{{what="{what}"}})'
    return f"abs(({_of_an_hour(what)} or {requests} * 0) / {requests} - {trained})"


ENOUGH = "sum by (feature) (increase(ray_adbeam_feature_requests_total[1h])) > 1000"

ALERTS: tuple[Alert, ...] = (
    Alert(
        "AdbeamNoReplicas",
        "absent(ray_adbeam_rung) and on() (max_over_time(count(ray_adbeam_rung)[1d:10m]) > 0)",
        "2m",
        "page",
        "No replica of the recommender reports, and some did within the last day.",
    ),
    Alert(
        "AdbeamServerErrors",
        'sum(rate(ray_adbeam_responses_total{status=~"5.."}[5m])) / sum(rate(ray_adbeam_responses_total[5m])) > 0.001',
        "5m",
        "page",
        "More than 0.1 % of answers are server errors.",
    ),
    Alert(
        "AdbeamShedding",
        "sum(rate(ray_adbeam_shed_total[5m])) > 0",
        "5m",
        "page",
        "Requests are refused with 503: beams are at their floor and there is no fallback.",
    ),
    Alert(
        "AdbeamDegradedAnswers",
        f"{_share('ray_adbeam_degraded_total')} > 0.01",
        "5m",
        "page",
        "More than 1 % of answers come from cache or fallback.",
    ),
    Alert(
        "AdbeamDeadlineMisses",
        f"{_share('ray_adbeam_deadline_misses_total')} > 0.01",
        "5m",
        "page",
        "More than 1 % of requests cannot be decoded before their deadline.",
    ),
    Alert(
        "AdbeamNarrowBeams",
        "avg(min_over_time(ray_adbeam_rung[5m])) >= 1",
        "30m",
        "ticket",
        "Beams have been narrow for half an hour: the degraded state lasts.",
    ),
    Alert(
        "AdbeamDemandAboveReplicas",
        "sum(ray_adbeam_demand_full_width) > count(ray_adbeam_rung)",
        "15m",
        "ticket",
        "Full width needs more replicas than there are, and the autoscaler does not bring them.",
    ),
    Alert(
        "AdbeamCostModelOff",
        "max(avg_over_time(ray_adbeam_cost_factor[10m])) > 2",
        "15m",
        "ticket",
        "Batches take twice as long as calibrated: a replica shares its cores.",
    ),
    Alert(
        "AdbeamRungOscillates",
        "sum(rate(ray_adbeam_rung_changes_total[10m])) / count(ray_adbeam_rung) > 0.5",
        "15m",
        "ticket",
        "Controllers move more than once in two seconds.",
    ),
    Alert(
        "AdbeamBundleRefused",
        'sum(increase(ray_adbeam_bundle_swaps_total{result="refused"}[15m])) > 0',
        "0m",
        "page",
        "A replica refused the newest bundle and serves the old one.",
    ),
    Alert(
        "AdbeamReplicasDisagree",
        "count(count by (version) (ray_adbeam_model_age_seconds)) > 1",
        "15m",
        "ticket",
        "Replicas have served two bundles for a quarter of an hour.",
    ),
    Alert(
        "AdbeamModelStale",
        'time() - adbeam_step_published_timestamp_seconds{step="bundles"} > 2 * 86400',
        "10m",
        "ticket",
        "No bundle has been exported for two days.",
    ),
    Alert(
        "AdbeamStoreFailures",
        "sum(rate(ray_adbeam_store_failures_total[5m])) > 0",
        "5m",
        "page",
        "The history store or the event log fails: users are answered as if new, or events are refused.",
    ),
    Alert(
        "AdbeamEventsLost",
        "sum(delta(ray_adbeam_event_log_dropped_rows[15m])) > 0"
        " or sum(delta(ray_adbeam_request_log_dropped_rows[15m])) > 0",
        "0m",
        "ticket",
        "Rows of a log were removed before the online loop read them: no training will see them.",
    ),
    Alert(
        "AdbeamMoneyDrift",
        f"abs(ln({_of_a_day('expected')} / {_of_a_day('returned')})) > {DRIFT} and {_of_a_day('conversions')} > 200",
        "1h",
        "ticket",
        "In a scene, shown ads were expected to bring over 1.5 times, or under 1 / 1.5 of, what came back in a day.",
    ),
    Alert(
        "AdbeamFeatureDrift",
        f"({_told_drift('missing')} > 0.1 or {_told_drift('unknown')} > 0.1) and {ENOUGH}",
        "15m",
        "ticket",
        "Over an hour a declared feature is missing or unknown for a share of requests 10 points off that of training.",
    ),
    Alert(
        "AdbeamTrainingStalled",
        "changes(ray_adbeam_train_step[15m]) == 0 and ray_adbeam_train_step offset 15m >= 0",
        "5m",
        "ticket",
        "A training job runs and takes no steps.",
    ),
    Alert(
        "AdbeamTrainingDiverged",
        "ray_adbeam_train_loss != ray_adbeam_train_loss",
        "0m",
        "ticket",
        "The training loss is not a number.",
    ),
    Alert(
        "AdbeamLogQuarantined",
        'sum(adbeam_prepared_rows{result="quarantined"}) / sum(adbeam_prepared_rows) > 0.05',
        "0m",
        "ticket",
        "More than 5 % of the newest log broke the schema.",
    ),
    Alert(
        "AdbeamDiskAlmostFull",
        "ray_node_disk_utilization_percentage > 90",
        "10m",
        "ticket",
        "A Ray node's disk is more than 90 % full: spilling and checkpoints will fail.",
    ),
    Alert(
        "AdbeamMemoryAlmostFull",
        "ray_node_mem_used / ray_node_mem_total > 0.93",
        "5m",
        "page",
        "A Ray node is about to kill workers for memory.",
    ),
)


def rule_file() -> dict[str, Any]:
    """The rules as a Prometheus rule file."""
    return {"groups": [{"name": "adbeam", "rules": [alert.rule() for alert in ALERTS]}]}


def prometheus_rule(namespace: str = "adbeam") -> dict[str, Any]:
    """The same rules for the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "adbeam", "namespace": namespace, "labels": {"release": "prometheus"}},
        "spec": rule_file(),
    }
