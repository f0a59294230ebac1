"""HSD, the heterogeneous sequence-wise decoder of GPR: the context as one sequence of typed tokens."""
