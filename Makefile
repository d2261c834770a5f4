# make run          install what is missing and run the main job on the bundled model
# make test         install what is missing and run the tests
# make lint         install what is missing and run ruff and mypy
# make bench        what each method costs, as a ratio to the plain pipeline
# make lock         choose the versions anew that all of these install: requirements/locked.txt
# make test-latest  the tests on the newest of everything, in an environment of its own; it may fail, and says what broke

VENV ?= .venv
PYTHON ?= python3
JOBS ?= 2
OUT ?= out/compare
LOCKED = requirements/locked.txt
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
LOCKED_PIP = $(PIP) --constraint $(LOCKED)
# What builds the package is locked too, hence no isolated build.
INSTALL = $(LOCKED_PIP) hatchling editables && $(LOCKED_PIP) --no-build-isolation --editable
TESTING = OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

.PHONY: run test test-latest lint bench lock clean
.DELETE_ON_ERROR:

run: $(VENV)/.installed-run
	@$(VENV)/bin/negguide compare "a pet on grass" --negative cat --out "$(OUT)"

test: $(VENV)/.installed-test
	$(TESTING) $(VENV)/bin/python -m pytest -n $(JOBS)

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test-latest:
	$(PYTHON) -m venv --clear "$(VENV)-latest"
	$(VENV)-latest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-latest/bin/python -m pip install --quiet --editable ".[all,test]"
	$(VENV)-latest/bin/python -m pip freeze --exclude-editable
	$(TESTING) $(VENV)-latest/bin/python -m pytest -n $(JOBS)

lock:
	@$(PYTHON) -m venv "$(VENV)-lock"
	@$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check --upgrade uv
	$(VENV)-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --all-extras --no-annotate \
	    --no-emit-index-url --custom-compile-command "make lock" --constraint requirements/held.txt \
	    --output-file $(LOCKED) pyproject.toml

bench: $(VENV)/.installed-run
	$(VENV)/bin/python benchmarks/cost.py

clean:
	rm -rf build dist out

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "negguide needs Python 3.10 or newer: make PYTHON=python3.10 ..." >&2; exit 2; }
	@$(PYTHON) -m venv "$(VENV)"

$(VENV)/.installed-run: pyproject.toml $(LOCKED) | $(VENV)/bin/python
	@echo "installing negguide into $(VENV) (once; a few minutes)"
	@$(INSTALL) ".[cli]" && touch $@

$(VENV)/.installed-test: pyproject.toml $(LOCKED) | $(VENV)/bin/python
	@echo "installing negguide and its tests into $(VENV) (once; a few minutes)"
	@$(INSTALL) ".[all,test]" && touch $@ $(VENV)/.installed-run

$(VENV)/.installed-dev: pyproject.toml $(LOCKED) | $(VENV)/bin/python
	@echo "installing negguide and its tools into $(VENV) (once)"
	@$(INSTALL) ".[dev]" && touch $@ $(VENV)/.installed-run $(VENV)/.installed-test
