"""The simulated marketplace: users, ads, bids, budgets, clicks and conversions whose truth is known.

Everything here is simulated and says so; no row of a real log is in it, only the aggregates of `calibration`.
"""
