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

.PHONY: quickstart test test-unit test-full lint check check-types check-tests hooks docs release bench clean

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

# One room: `make check ROOM=beams`. Types and tests share the two halves of the machine.
ROOM_FILES = $(wildcard platform/adbeam/$(ROOM) platform/adbeam/$(ROOM).py tests/unit/$(ROOM))
check: $(VENV)/.installed-dev
	@[ -n "$(ROOM)" ] && [ -n "$(ROOM_FILES)" ] || { \
	  echo "make check ROOM=NAME; NAME is one of $$(ls platform/adbeam | sed 's/\.py$$//' | grep -v '^__\|typed' | xargs)"; exit 2; }
	$(BIN)/ruff check $(ROOM_FILES)
	$(BIN)/ruff format --check $(ROOM_FILES)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target check-types check-tests ROOM=$(ROOM)

check-types:
	$(BIN)/mypy $(filter-out tests/%,$(ROOM_FILES))

check-tests:
	$(SHARED) -m "not full and not alone" $(wildcard tests/unit/$(ROOM)) tests/unit/project/test_walls.py

# The documentation site, strictly: a link that leads nowhere ends it. It lies in build/site, with nothing from elsewhere.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file website/mkdocs.yml
	@echo "wrote build/site/index.html"

# A wheel and a source distribution in dist/; each is installed into an empty environment and tried there.
release: $(VENV)/.installed-dev
	rm -rf dist && $(BIN)/python -m build --outdir dist .
	$(BIN)/python -m pytest tests/integration/release

hooks: $(VENV)/.installed-dev
	$(BIN)/pre-commit install

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
	$(INSTALL) -e '.[quickstart,dev,docs]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) runs build
