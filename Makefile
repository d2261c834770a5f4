# make run          install what is missing and run the main job on the bundled model
# make test         install what is missing and run the tests
# make test-fast    the part of them that says most in three minutes: tests/conftest.py names it
# make test-all     the tests, and every method on every small pipeline: tests/matrix.py
# make lint         install what is missing and run ruff and mypy
# make docs         build the documentation site into out/site, offline
# make bench        what each method costs, as a ratio to the plain pipeline
# make lock         choose the versions anew that all of these install: requirements/
# make test-oldest  the fast part on the oldest versions that we support, in an environment of its own
# make test-latest  all tests on the newest of everything, likewise; it may fail, and says what broke
# make test-comfyui COMFYUI_PATH=...  the node pack in a real ComfyUI, on the CPU: tests/test_comfyui_real.py
# UV=path/to/uv     install with uv instead of pip, which shares its files between environments

VENV ?= .venv
PYTHON ?= python3
JOBS ?= 2
OUT ?= out/compare
OLDEST_PYTHON ?= python3.10
LOCKED = requirements/locked.txt
OLDEST = requirements/oldest.txt
# $(call install,ENVIRONMENT,VERSIONS) WHAT: what builds packages has the given versions too (pip before 25.3 reads the first
# variable for that, later ones the second).
ifdef UV
pip = $(UV) pip install --quiet --python "$(1)/bin/python"
install = $(call pip,$(1)) --constraint $(2) --build-constraint $(2)
else
pip = "$(1)/bin/python" -m pip install --quiet --disable-pip-version-check
install = PIP_CONSTRAINT=$(2) PIP_BUILD_CONSTRAINT=$(2) $(call pip,$(1)) --constraint $(2)
endif
COMPILE = $(VENV)-lock/bin/uv pip compile --quiet --upgrade --python-version 3.10 --no-annotate --no-emit-index-url \
    --custom-compile-command "make lock"
TESTING = OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

.PHONY: run test test-all test-comfyui test-fast test-oldest test-latest lint docs bench lock clean
.DELETE_ON_ERROR:

run: $(VENV)/.installed-run
	@$(VENV)/bin/negguide compare "a pet on grass" --negative cat --out "$(OUT)"

test: $(VENV)/.installed-test
	$(TESTING) $(VENV)/bin/python -m pytest -n $(JOBS)

test-all: $(VENV)/.installed-test
	$(TESTING) $(VENV)/bin/python -m pytest -n $(JOBS) -m "nightly or not nightly"

test-fast: $(VENV)/.installed-test
	$(TESTING) $(VENV)/bin/python -m pytest -n $(JOBS) -m fast

test-oldest: $(VENV)-oldest/.installed
	$(TESTING) $(VENV)-oldest/bin/python -m pytest -n $(JOBS) -m fast

test-comfyui: $(VENV)/.installed-test
	@test -f "$(COMFYUI_PATH)/main.py" || { echo "COMFYUI_PATH=... must name a clone of ComfyUI" >&2; exit 2; }
	COMFYUI_PATH="$(COMFYUI_PATH)" $(TESTING) $(VENV)/bin/python -m pytest tests/test_comfyui_real.py

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.installed-dev
	$(VENV)/bin/python -m lab.site
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo "documentation: out/site/index.html"

test-latest:
	$(PYTHON) -m venv --clear "$(VENV)-latest"
	$(call pip,$(VENV)-latest) --upgrade pip
	$(call pip,$(VENV)-latest) --editable ".[all,lab,s3-test,test]"
	"$(VENV)-latest/bin/python" -m pip freeze --exclude-editable
	$(TESTING) $(VENV)-latest/bin/python -m pytest -n $(JOBS)

lock:
	@$(PYTHON) -m venv "$(VENV)-lock"
	@$(call pip,$(VENV)-lock) --upgrade uv
	$(COMPILE) --universal --all-extras --constraint requirements/held.txt --output-file $(LOCKED) pyproject.toml
	$(COMPILE) --resolution lowest-direct --extra test --output-file $(OLDEST) pyproject.toml

bench: $(VENV)/.installed-run
	$(VENV)/bin/python benchmarks/cost.py

clean:
	rm -rf build dist out

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "negguide needs Python 3.10 or newer: make PYTHON=python3.10 ..." >&2; exit 2; }
	@$(PYTHON) -m venv "$(VENV)"

$(VENV)/.installed-run: pyproject.toml $(LOCKED) | $(VENV)/bin/python
	@echo "installing negguide into $(VENV) (once; a few minutes)"
	@$(call install,$(VENV),$(LOCKED)) --editable ".[cli]" && touch $@

$(VENV)/.installed-test: pyproject.toml $(LOCKED) | $(VENV)/bin/python
	@echo "installing negguide and its tests into $(VENV) (once; a few minutes)"
	@$(call install,$(VENV),$(LOCKED)) --editable ".[all,lab,s3-test,test]" && touch $@ $(VENV)/.installed-run

$(VENV)/.installed-dev: pyproject.toml $(LOCKED) | $(VENV)/bin/python
	@echo "installing negguide and its tools into $(VENV) (once)"
	@$(call install,$(VENV),$(LOCKED)) --editable ".[dev]" && touch $@ $(VENV)/.installed-run $(VENV)/.installed-test

$(VENV)-oldest/.installed: pyproject.toml $(OLDEST)
	@echo "installing the oldest versions that negguide supports into $(VENV)-oldest (once; a few minutes)"
	@$(OLDEST_PYTHON) -m venv --clear "$(VENV)-oldest"
	@$(call install,$(VENV)-oldest,$(OLDEST)) --editable ".[test]" && touch $@
