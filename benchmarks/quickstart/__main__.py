"""`python -m benchmarks.quickstart`."""

from benchmarks.quickstart.run import main

main()
