"""From a prepared log to the rows that the foundation learns from."""
