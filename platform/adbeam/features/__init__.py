"""What a model is told, built from logs and stores alike: histories, buckets, tokens, contexts and their batches.

Numpy, but for `batch`: data tasks of training and online learning build rows without loading torch.
"""
