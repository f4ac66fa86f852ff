# Everything starts here: `make demo` and `make test` need python3 (3.11 or newer) and make, nothing else.
.DEFAULT_GOAL := help
.PHONY: help install demo test check format bench faults
SHELL := /bin/bash

BIN := .venv/bin
STAMP := .venv/.installed
DATA ?= ../shared/data
SHOP ?= demo-shop
WORKERS ?= 3

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/' | expand -t 18

install: $(STAMP)  ## make .venv with the pinned versions (the other targets do it when needed)

# One place for the environment. uv is taken from the PATH, else fetched with pip into .uv; index and proxy settings
# and UV_TORCH_BACKEND (for example cpu or cu128) are read by uv from the environment as usual.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if uv --version >/dev/null 2>&1; then uv=uv; else \
	  uv=.uv/bin/uv; \
	  if ! $$uv --version >/dev/null 2>&1; then \
	    echo "fetching uv into .uv"; rm -rf .uv; \
	    { python3 -m venv .uv >/dev/null 2>&1 && .uv/bin/python -m pip install --quiet uv; } \
	    || { rm -rf .uv; python3 -m pip install --quiet --target .uv uv; } \
	    || { echo "make: neither venv nor pip works with this python3: install python3-venv, or uv" >&2; exit 1; }; \
	  fi; \
	fi; \
	[ -x $(BIN)/python ] || $$uv venv --quiet --python '>=3.11' .venv; \
	$$uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## draw a shop, run the whole line on it, show recommendations
	$(BIN)/recsys demo $(SHOP)

test: $(STAMP)  ## all tests, in WORKERS=3 processes: some wait more than they compute
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(STAMP)  ## what has to be clean before a commit: format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)  ## put the code into the format that check asks for
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(STAMP)  ## the measurements of docs/benchmarks.md, on DATA=folder
	PYTHON=$(BIN)/python bash benchmarks/run.sh $(DATA)

faults: $(STAMP)  ## the fault tests with their large figures
	RECSYS_FAULTS=large $(BIN)/python -m pytest -m faults --timeout=7200
