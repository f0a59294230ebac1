"""Ids in logs and catalogues by the rule of adbeam.identity, whole columns at a time."""
