"""From a request to its batch: queue, decode loop, deadlines, cache."""
