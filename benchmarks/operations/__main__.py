"""`python -m benchmarks.operations`."""

from benchmarks.operations.run import main

main()
