"""`python -m benchmarks.spike_simulated`."""

from benchmarks.spike_simulated.run import main

main()
