"""Optional votes of history and trends for the next code."""
