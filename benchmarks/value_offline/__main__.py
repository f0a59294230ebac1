"""`python -m benchmarks.value_offline`."""

from benchmarks.value_offline.run import main

main()
