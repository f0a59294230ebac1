"""Alert rules on series made up for them, judged by promtool: they fire when they should, and only then."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.tools import tool

from adbeam.dashboards.alerts import ALERTS

RULES = Path(__file__).parents[3] / "cluster" / "alerts.yml"


@pytest.fixture(scope="module", autouse=True)
def promtool_is_installed() -> str:
    return tool("promtool", "prometheus")


GOOD = {
    'ray_adbeam_rung{replica="a"}': "0x120",
    'ray_adbeam_demand_full_width{replica="a"}': "0.5x120",
    'ray_adbeam_cost_factor{replica="a"}': "1x120",
    'ray_adbeam_requests_total{source="model"}': "0+6000x120",
    'ray_adbeam_responses_total{status="200"}': "0+6000x120",
    'ray_adbeam_deadline_misses_total{replica="a"}': "0x120",
    'ray_adbeam_rung_changes_total{replica="a"}': "0+1x120",
    'ray_adbeam_model_age_seconds{version="v1"}': "0+60x120",
    'ray_adbeam_money_expected_total{scene="feed",model_version="v1"}': "0+11x120",
    'ray_adbeam_money_returned_total{scene="feed",model_version="v1"}': "0+10x120",
    'ray_adbeam_money_conversions_total{scene="feed",model_version="v1"}': "0+5x120",
    'ray_adbeam_feature_requests_total{feature="os"}': "0+6000x120",
    'ray_adbeam_feature_missing_total{feature="os"}': "0+600x120",
    'ray_adbeam_feature_trained_share{feature="os",what="missing"}': "0.15x120",
    'ray_adbeam_feature_trained_share{feature="os",what="unknown"}': "0.02x120",
    "ray_adbeam_train_step": "0+10x120",
    "ray_adbeam_train_loss": "2x120",
    'adbeam_step_published_timestamp_seconds{step="bundles"}': "0x120",
    'adbeam_prepared_rows{result="kept"}': "1000x120",
    'adbeam_prepared_rows{result="quarantined"}': "1x120",
    "ray_node_mem_used": "50x120",
    "ray_node_mem_total": "100x120",
    "ray_node_disk_utilization_percentage": "40x120",
}
"""Two hours of a healthy platform, a value a minute."""

BAD: dict[str, dict[str, str]] = {
    "AdbeamNoReplicas": {'ray_adbeam_rung{replica="a"}': "0x30 _x90"},
    "AdbeamMoneyDrift": {'ray_adbeam_money_expected_total{scene="feed",model_version="v1"}': "0+20x120"},
    "AdbeamFeatureDrift": {'ray_adbeam_feature_missing_total{feature="os"}': "0+2000x120"},
    "AdbeamServerErrors": {'ray_adbeam_responses_total{status="500"}': "0+60x120"},
    "AdbeamShedding": {'ray_adbeam_shed_total{reason="late"}': "0+60x120"},
    "AdbeamDegradedAnswers": {'ray_adbeam_degraded_total{reason="late"}': "0+600x120"},
    "AdbeamDeadlineMisses": {'ray_adbeam_deadline_misses_total{replica="a"}': "0+600x120"},
    "AdbeamNarrowBeams": {'ray_adbeam_rung{replica="a"}': "2x120"},
    "AdbeamDemandAboveReplicas": {'ray_adbeam_demand_full_width{replica="a"}': "1.7x120"},
    "AdbeamCostModelOff": {'ray_adbeam_cost_factor{replica="a"}': "2.5x120"},
    "AdbeamRungOscillates": {'ray_adbeam_rung_changes_total{replica="a"}': "0+60x120"},
    "AdbeamBundleRefused": {'ray_adbeam_bundle_swaps_total{result="refused"}': "0x110 1x10"},
    "AdbeamReplicasDisagree": {'ray_adbeam_model_age_seconds{version="v2"}': "0+60x120"},
    "AdbeamStoreFailures": {'ray_adbeam_store_failures_total{operation="append"}': "0+5x120"},
    "AdbeamEventsLost": {'ray_adbeam_request_log_dropped_rows{replica="a"}': "0x100 0+5x20"},
    "AdbeamTrainingStalled": {"ray_adbeam_train_step": "0+10x60 600x60"},
    "AdbeamTrainingDiverged": {"ray_adbeam_train_loss": "2x60" + " NaN" * 60},
    "AdbeamLogQuarantined": {'adbeam_prepared_rows{result="quarantined"}': "100x120"},
    "AdbeamDiskAlmostFull": {"ray_node_disk_utilization_percentage": "95x120"},
    "AdbeamMemoryAlmostFull": {"ray_node_mem_used": "97x120"},
}


def _case(name: str, series: dict[str, str], at: str, expected: set[str]) -> dict[str, Any]:
    """A test for promtool: of all alerts exactly `expected` fire at the moment `at`."""
    checks = [
        {"eval_time": at, "alertname": alert.name, "exp_alerts": [_expected(alert)] if alert.name in expected else []}
        for alert in ALERTS
    ]
    inputs = [{"series": key, "values": values} for key, values in series.items()]
    return {"name": name, "interval": "1m", "input_series": inputs, "alert_rule_test": checks}


def _expected(alert: Any) -> dict[str, Any]:
    labels = {"severity": alert.severity}
    if alert.name == "AdbeamMoneyDrift":
        labels |= {"scene": "feed", "model_version": "v1"}
    if alert.name == "AdbeamFeatureDrift":
        labels["feature"] = "os"
    if alert.name == "AdbeamModelStale":
        labels["step"] = "bundles"
    return {"exp_labels": labels, "exp_annotations": alert.rule()["annotations"]}


def _cases() -> list[dict[str, Any]]:
    return [
        _case("a healthy platform", GOOD, "119m", set()),
        *(_case(name, {**GOOD, **trouble}, "119m", {name}) for name, trouble in BAD.items()),
    ]


def _verdict(cases: list[dict[str, Any]], folder: Path, every: str = "1m") -> subprocess.CompletedProcess[str]:
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": every, "tests": cases}))
    return subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)


def test_every_alert_has_a_case() -> None:
    assert {alert.name for alert in ALERTS} - set(BAD) == {"AdbeamModelStale"}


def test_each_alert_fires_on_its_own_trouble_and_alone(tmp_path: Path) -> None:
    verdict = _verdict(_cases(), tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_a_stale_model_is_noticed_after_two_days(tmp_path: Path) -> None:
    old = {'adbeam_step_published_timestamp_seconds{step="bundles"}': "0x60"}
    cases = [_case("one day", old, "24h", set()), _case("two days", old, "50h", {"AdbeamModelStale"})]
    verdict = _verdict([{**case, "interval": "1h"} for case in cases], tmp_path, every="1h")
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize(
    "series",
    [
        {'ray_adbeam_feature_unknown_total{feature="os"}': "0+900x120"},
        {'ray_adbeam_feature_missing_total{feature="os"}': "_x120"},  # none is missing any more: a default came in
    ],
)
def test_a_feature_drifts_either_way(tmp_path: Path, series: dict[str, str]) -> None:
    verdict = _verdict([_case("drift", {**GOOD, **series}, "119m", {"AdbeamFeatureDrift"})], tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    few = {'ray_adbeam_feature_requests_total{feature="os"}': "0+10x120"}
    verdict = _verdict([_case("few requests say nothing", {**GOOD, **series, **few}, "119m", set())], tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_a_wrong_expectation_is_found(tmp_path: Path) -> None:
    verdict = _verdict([_case("a healthy platform", GOOD, "119m", {"AdbeamShedding"})], tmp_path)
    assert verdict.returncode != 0
    assert "AdbeamShedding" in verdict.stdout + verdict.stderr
