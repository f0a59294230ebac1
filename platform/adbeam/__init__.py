"""adbeam: generative ad recommendation on Ray, with beams that follow the load."""
