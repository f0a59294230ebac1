"""Prices of a bundle from the log: counts by ad, the model on impressions it has not learnt from, and the fit."""
