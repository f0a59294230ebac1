"""LazyAR: the context processor, the decoder and the features they read."""
