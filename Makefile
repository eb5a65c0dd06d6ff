# `make demo` and `make test` set up everything they need: a Python of 3.11 or later with its venv module is enough, a C compiler makes it faster.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test lint setup clean

demo: setup
	$(BIN)/stretto demo

# Tests that share a timing-sensitive resource are marked with one xdist_group and so run in one worker.
test: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup

lint: setup
	$(BIN)/ruff check src tests examples
	$(BIN)/mypy

setup: $(STAMP)

$(STAMP): pyproject.toml $(wildcard setup.py src/stretto/runtime/*.c)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stretto needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
