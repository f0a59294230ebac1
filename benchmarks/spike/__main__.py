"""`python -m benchmarks.spike`."""

from benchmarks.spike.run.run import main

main()
