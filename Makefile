# `make demo` and `make test` each set up everything that they need in .venv.
# Another interpreter or folder:  make test PYTHON=python3.13 VENV=.venv-3.13
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
PYTEST_ARGS ?=
export MPLBACKEND := Agg
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs notebooks coverage constraints clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1  /p' $(firstword $(MAKEFILE_LIST)) | \
		awk '{printf "  make %-12s", $$2; $$1 = $$2 = ""; print}'

demo: $(VENV)/.installed-plot  ## put a melting front's lost mass right: table and figures, minutes
	$(BIN)/jaxsci run stefan --budget quick

# Programs that run once are compiled without most optimisations, or compilation would be most of
# the time. `JAX_DISABLE_MOST_OPTIMIZATIONS=0 make test` tests them as they are used.
test: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 1
# Two processes on two cores: a second thread of LAPACK's would wait for its turn, many times longer
# than it works.
test notebooks: export OPENBLAS_NUM_THREADS ?= 1
test: $(VENV)/.installed-test  ## run the tests, without the slow ones
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev  ## ruff, pyright, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev  ## build the documentation into site/
	$(BIN)/python docs/public_names.py
	$(BIN)/mkdocs build --strict

notebooks: $(VENV)/.installed-dev  ## run every notebook; fails where one raises or has outputs
	$(BIN)/python notebooks/run_all.py

coverage: $(VENV)/.installed-dev  ## run the tests and show which lines they never reach
	$(BIN)/python -m pytest -m "not slow" -n 2 --cov --cov-report=term-missing:skip-covered

clean:  ## remove what the other targets made
	rm -rf .venv .venv-* build dist site *.egg-info .pytest_cache .ruff_cache .import_linter_cache

# One stamp for each extra of pyproject.toml: a second call installs nothing.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the [$*] extra into $(VENV)"
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q -c constraints.txt -e ".[$*]"
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name one: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
