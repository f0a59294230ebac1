"""What stops a run that goes wrong: anomalies, divergence, preemption."""
