# make lab opens the course, make test proves everything; both set up .venv first. The same without make: docs/library.md.

PYTHON ?= python3
WORKERS ?= 2
LAB_ARGS ?=
BIN := .venv/bin
READY := .venv/.ready

.PHONY: lab test browser notebooks book lint oldest newest margins bench board doctor clean

# exec: a signal meant for the lab reaches JupyterLab itself, not a shell before it.
lab: $(READY)
	@exec $(BIN)/python labelkit_course/lab.py $(LAB_ARGS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

# The part of the tests that drives a browser. Installs none: without a Chromium it says how to get one.
browser: $(READY)
	@$(BIN)/python tests/browser/chromium.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser

notebooks: $(READY)
	$(BIN)/labelkit course build

# The book, from the committed notebooks, the documents and the docstrings: offline, warnings are errors.
book: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m book

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The library's tests on the lowest, or on the newest, versions that pyproject.toml allows, in environments of their own.
oldest newest: %: .venv-%/.ready
	OMP_NUM_THREADS=1 .venv-$@/bin/python -m pytest -n $(WORKERS) --confcutdir=tests tests \
	  --ignore=tests/course --ignore=tests/chapters --ignore=tests/book --ignore=tests/browser

# How far each assertion on a trained number stands from failing, over seeds and instruction sets.
margins: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/margins.py

bench: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/run.py

board: $(READY)
	for data in sky digits trees; do $(BIN)/labelkit course board --data $$data && \
	  $(BIN)/labelkit course board --data $$data --table || exit 1; done

doctor:
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) labelkit_course/doctor.py

clean:
	rm -rf .venv .venv-oldest .venv-newest build .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info labelkit_course/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv installs several times faster than pip and is tried first; pip does the same where uv is not to be had.
$(READY): requirements.txt pyproject.toml labelkit_course/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "labelkit needs Python 3.11 or newer, and $(PYTHON) is not. Try: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv: this downloads torch once, on Linux with gigabytes of CUDA. Without a GPU: docs/library.md."
	@if $(BIN)/python -m pip install --quiet uv==0.13.9 && $(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt; \
	then true; else echo "Going on with pip."; $(BIN)/python -m pip install --quiet -r requirements.txt; fi
	@touch $(READY)

# Only uv resolves to lowest versions. They have wheels for Python 3.11 and 3.12, not for newer ones.
.venv-oldest/.ready: RESOLUTION = lowest-direct
.venv-newest/.ready: RESOLUTION = highest
.venv-oldest/.ready .venv-newest/.ready: pyproject.toml
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet uv==0.13.9
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --resolution $(RESOLUTION) -e ".[test]"
	@touch $@
