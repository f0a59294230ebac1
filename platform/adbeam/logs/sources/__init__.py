"""Where events come from: files of one's own, sequence benchmarks, and Complete Journey."""
