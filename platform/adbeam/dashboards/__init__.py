"""What operators look at: dashboards and alert rules as code, their publisher, and an exporter of step results."""
