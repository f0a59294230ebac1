"""`python -m benchmarks.training`."""

from benchmarks.training.run.run import main

main()
