"""Constrained beam search over live semantic IDs: the hot path."""
