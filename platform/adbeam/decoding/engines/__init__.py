"""The decoders that run a search: LazyAR, LazyAR with CUDA graphs, multi-token prediction."""
