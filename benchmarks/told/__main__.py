"""`python -m benchmarks.told`."""

from benchmarks.told.run import main

main()
