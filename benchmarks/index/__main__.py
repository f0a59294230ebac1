"""`python -m benchmarks.index`."""

from benchmarks.index.page import main

main()
