"""The environment that Serve needs for adbeam's latency, chosen by measurement; the same values as serving/serve.env.

Serve reads them when it is imported, in the driver, the controller and every replica: set them before Ray starts.
"""

from __future__ import annotations

from collections.abc import Mapping

SWITCHES: dict[str, str] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "1",
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "30",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.5",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_worker_niceness": "0",
}
LOCAL_SWITCHES: dict[str, str] = {
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
}
"""On one machine no other load balancer must first forget a replica that stops (the default waits 30 s for it), and a
proxy whose start takes long is waited for: Serve gives it up after three times this time (the default is 5 s)."""
DECISIVE = ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED")
"""Without these a request costs about ten times as much CPU outside the model."""


def missing_switches(environment: Mapping[str, str]) -> list[str]:
    """Which of the decisive switches an environment lacks."""
    return [name for name in DECISIVE if environment.get(name) != SWITCHES[name]]
