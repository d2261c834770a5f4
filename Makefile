# make run    install what is missing and run the main job on the bundled model
# make test   install what is missing and run the tests
# make lint   install what is missing and run ruff and mypy
# make bench  what each method costs, as a ratio to the plain pipeline

VENV ?= .venv
PYTHON ?= python3
JOBS ?= 2
OUT ?= out/compare
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
TESTING = OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

.PHONY: run test lint bench clean
.DELETE_ON_ERROR:

run: $(VENV)/.installed-run
	@$(VENV)/bin/negguide compare "a pet on grass" --negative cat --out "$(OUT)"

test: $(VENV)/.installed-test
	$(TESTING) $(VENV)/bin/python -m pytest -n $(JOBS)

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.installed-run
	$(VENV)/bin/python benchmarks/cost.py

clean:
	rm -rf build dist out

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "negguide needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 2; }
	@$(PYTHON) -m venv "$(VENV)"

$(VENV)/.installed-run: pyproject.toml | $(VENV)/bin/python
	@echo "installing negguide into $(VENV) (once; a few minutes)"
	@$(PIP) --editable . && touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "installing negguide and its tests into $(VENV) (once; a few minutes)"
	@$(PIP) --editable ".[test]" && touch $@ $(VENV)/.installed-run

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing negguide and its tools into $(VENV) (once)"
	@$(PIP) --editable ".[dev]" && touch $@ $(VENV)/.installed-run $(VENV)/.installed-test
