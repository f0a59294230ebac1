"""`python -m benchmarks.spike_simulated`."""

from benchmarks.spike_simulated.run.run import main

main()
