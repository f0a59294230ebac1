"""Ray Train with DeepSpeed ZeRO: ingest, loop, checkpoint, resume, export."""
