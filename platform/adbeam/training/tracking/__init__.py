"""What a run says of itself: progress, means of steps, its record, trackers."""

from adbeam.imports.moved import names_of

__getattr__ = names_of("adbeam.training.tracking", "adbeam.training.tracking.trackers")
