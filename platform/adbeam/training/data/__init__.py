"""From prepared logs to batches: rows, their order, their stream."""
