"""`python -m benchmarks.beauty`."""

from benchmarks.beauty.run import main

main()
