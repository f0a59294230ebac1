"""How settings of a log are spelt in YAML."""
