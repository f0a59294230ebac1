"""One log written in many ways: read back it is the same log, or it is refused in words."""
