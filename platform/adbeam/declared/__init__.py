"""Declared features as codes that a model reads: fitted once on a log, encoded everywhere by one function."""
