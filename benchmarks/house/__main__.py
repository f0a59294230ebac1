"""`python -m benchmarks.house`."""

from benchmarks.house.run import main

main()
