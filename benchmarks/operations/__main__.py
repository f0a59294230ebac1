"""`python -m benchmarks.operations`."""

from benchmarks.operations.run.run import main

main()
