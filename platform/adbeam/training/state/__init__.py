"""What a run holds and keeps: DeepSpeed engine, optimizer, checkpoints, resharding."""
