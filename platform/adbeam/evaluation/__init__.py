"""Ranking metrics, baselines and the tables made of them."""
