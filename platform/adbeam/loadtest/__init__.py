"""The load generator: arrivals, connections, plans, runs and reports."""
