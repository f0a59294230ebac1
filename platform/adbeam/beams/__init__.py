"""The dynamic beam controller: ladder, cost model and policies; neither Ray nor torch."""
