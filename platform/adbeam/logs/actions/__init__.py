"""Rows that carry several actions: their events."""
