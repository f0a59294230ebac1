# Two commands do everything on a fresh machine: `make quickstart` and `make test`. Each makes its own environment.
# They need Python 3.11+, make and a C/C++ compiler.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export RAY_USAGE_STATS_ENABLED := 0
# Images set it, and then each of the hundred processes of a test run compiles all it imports.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: quickstart test test-unit test-full lint bench clean

quickstart: $(VENV)/.installed
	$(BIN)/adbeam quickstart

# Tests share the cores file by file, the few long files first, so that no core waits for the other at the end. Those
# marked `alone` use the shared Ray or the ports of a cluster, or measure time: they have the machine to themselves.
SHARED = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
ALONE = $(BIN)/python -m pytest tests/integration tests/behaviour

test: $(VENV)/.installed-dev
	$(SHARED) tests/behaviour tests/integration benchmarks tests/unit -m "not full and not alone"
	$(ALONE) -m "alone and not full"

test-unit: $(VENV)/.installed-dev
	$(SHARED) tests/unit -m "not full"

test-full: $(VENV)/.installed-dev
	$(SHARED) tests/behaviour tests/integration benchmarks tests/unit -m "not alone"
	$(ALONE) -m alone

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.quickstart

# pip alone would resolve in minutes; uv does in seconds, and takes the same wheels from the same places.
$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet uv

INSTALL = UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt

$(VENV)/.installed: $(VENV)/bin/uv pyproject.toml constraints.txt
	$(INSTALL) -e '.[quickstart]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/uv pyproject.toml constraints.txt
	$(INSTALL) -e '.[quickstart,dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) runs build
