"""Metrics, recent answers, counts of replicas."""
