"""The model of a replica: engine, its process, calibration, contexts of a batch."""

from adbeam.imports.moved import names_of

__getattr__ = names_of("adbeam.serving.engine", "adbeam.serving.engine.engine")
