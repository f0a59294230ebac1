"""`python -m benchmarks.beauty`."""

from benchmarks.beauty.run.run import main

main()
