"""How a vector becomes codes: residual k-means, its learned relatives, and the hashed last level."""
