"""`python -m benchmarks.decode_scale`, a child process of `benchmarks.decode`."""

from benchmarks.decode.scale import main

main()
