"""Clean events on their own: ids of those that bring none, and the order of a shard."""
