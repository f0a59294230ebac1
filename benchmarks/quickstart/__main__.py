"""`python -m benchmarks.quickstart`."""

from benchmarks.quickstart.run.run import main

main()
