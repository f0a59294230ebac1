"""`python -m benchmarks.spike`."""

from benchmarks.spike.run import main

main()
