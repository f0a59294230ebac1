"""`python -m benchmarks.requests`."""

from benchmarks.requests.run import main

main()
