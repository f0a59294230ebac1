"""PromQL over the metrics of all replicas of the chosen application."""

from __future__ import annotations

from adbeam.dashboards.panels import Variable

APPLICATION = Variable("application", "Application", "label_values(ray_adbeam_rung, application)")
REPLICAS = '{application=~"$application"}'


def rate(metric: str, by: str = "") -> str:
    """Per second, over all replicas; `by` keeps labels."""
    keep = f" by ({by})" if by else ""
    return f"sum{keep} (rate(ray_adbeam_{metric}_total{REPLICAS}[$__rate_interval]))"


def quantile(share: float, metric: str) -> str:
    """A quantile of a histogram over all replicas."""
    return f"histogram_quantile({share}, sum by (le) (rate(ray_adbeam_{metric}_bucket{REPLICAS}[$__rate_interval])))"


def mean(metric: str) -> str:
    """The mean observation of a histogram over all replicas."""
    total, count = (f"sum(rate(ray_adbeam_{metric}_{part}{REPLICAS}[$__rate_interval]))" for part in ("sum", "count"))
    return f"{total} / {count}"


def gauge(how: str, metric: str) -> str:
    """A gauge over all replicas: sum, avg, max, count."""
    return f"{how} (ray_adbeam_{metric}{REPLICAS})"


def by_feature(metric: str) -> str:
    """The share of decoded requests of which a counter tells, by declared feature; zero where it never did."""
    return f"{rate(metric, 'feature')} / {rate('feature_requests', 'feature')} or vector(0)"


def off_training(what: str) -> str:
    """How far the share of requests without a value ("missing") or with an unknown word lies above that of training."""
    share = f"({rate(f'feature_{what}', 'feature')} or {rate('feature_requests', 'feature')} * 0)"
    trained = f'max by (feature) (ray_adbeam_feature_trained_share{{application=~"$application",what="{what}"}})'
    return f"{share} / {rate('feature_requests', 'feature')} - {trained} or vector(0)"


def faults(metric: str, by: str = "") -> str:
    """A rate that is zero, not absent, when nothing has ever gone wrong."""
    return f"{rate(metric, by)} or vector(0)"
