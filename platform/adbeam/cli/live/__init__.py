"""`adbeam ads`, `users`, `campaigns`: what changes while ads are served."""
