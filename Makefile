# Every target sets up what it needs: Python 3.11 or later with its venv module is enough; a C compiler makes the result faster.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
CODE := src tests $(wildcard examples)
SCRIPTS := setup.py docs/conf.py .ci/check_distributions.py
# The tests that must cover the packages named in pyproject.toml, under [tool.coverage.run], by themselves.
COVERING := $(wildcard $(addprefix tests/,core services replication protocols scenarios storage))

.PHONY: demo test lint docs coverage dist-check setup clean

demo: setup
	$(BIN)/stretto demo

# Tests that share a timing-sensitive resource are marked with one xdist_group, so one worker runs them.
test: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup

lint: setup
	$(BIN)/ruff check $(CODE) $(SCRIPTS)
	$(BIN)/ruff format --check $(CODE) $(SCRIPTS)
	$(BIN)/mypy $(CODE)

docs: setup
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -d docs/_build/doctrees docs docs/_build/html

coverage: setup
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist loadgroup $(COVERING)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Builds the sdist and the wheel, installs each where nothing else is, and uses it.
dist-check: setup
	$(BIN)/python .ci/check_distributions.py

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(wildcard setup.py src/stretto/runtime/*.c)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stretto needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist docs/_build src/*.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
