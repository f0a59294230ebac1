"""The live catalogue: the ads of a bundle with their rows and filters, and what keeps them on the update log."""
