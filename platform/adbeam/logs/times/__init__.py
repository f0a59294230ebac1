"""Moments of a log: what is read as one, in which zone, and whether the unit can be right."""
