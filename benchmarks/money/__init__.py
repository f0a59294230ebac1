"""What answers promise against what the simulated market pays, and what planted rows do to them."""
