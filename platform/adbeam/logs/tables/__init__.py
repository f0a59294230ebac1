"""The files that hold one table: which they are."""
