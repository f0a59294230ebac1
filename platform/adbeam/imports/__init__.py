"""How names become modules: lazy packages, registries of parts, where modules moved to."""
