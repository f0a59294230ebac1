"""What a target is worth in learning: pCTR x pCVR x bid, from the log's own impressions."""
