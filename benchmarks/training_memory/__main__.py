"""`python -m benchmarks.training_memory`, a child process of `benchmarks.training`."""

from benchmarks.training.memory import main

main()
