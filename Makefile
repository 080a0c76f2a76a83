# `make run` shows the gateway on a simulated Flowise, `make test` runs all tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
    --custom-compile-command 'make lock'
# what the image is built with: the build system, and the program that writes its bill of materials
BUILDS = import tomllib; project = tomllib.load(open("pyproject.toml", "rb")); \
    extra = project["project"]["optional-dependencies"]["package"]; \
    print(*project["build-system"]["requires"], *(name for name in extra if name.startswith("cyclonedx")), sep="\n")
# one more than there are cores, because tests wait for processes and clocks
JOBS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
# each process of the tests, some 300, would compile the gateway anew, and each worker all tests
unexport PYTHONDONTWRITEBYTECODE
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: help setup run test check format bench profile chaos e2e cover wheel lock clean

help: ## this list
	@grep -E '^[a-z0-9]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 10

setup: $(BIN)/flowise-gateway ## the environment .venv with the gateway

# Two steps: what runs, which `make run` needs, and what tests, which takes several times as long to install.
$(BIN)/flowise-gateway: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "This needs Python 3.11 or newer: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version), and installing the gateway there (half a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.tools: $(BIN)/flowise-gateway
	@echo "Installing what tests and checks need (half a minute) ..."
	@$(PIP) install --editable '.[dev]'
	@touch $@

run: setup ## the demo: the gateway on a simulated Flowise, with a curl command to try
	$(BIN)/flowise-gateway demo

test: $(VENV)/.tools ## the whole test suite; TEST_SECONDS=30 gives each test more time
	$(PYTEST)

check: $(VENV)/.tools ## format, lint, types, layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

format: $(VENV)/.tools ## format every file, fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.tools ## CPU, latency and memory beside nginx, Envoy and LiteLLM (15 minutes); figures in bench.json
	@$(PIP) install --editable '.[bench]'
	$(BIN)/python -m tests.bench --gateway $(BIN)/flowise-gateway

profile: $(VENV)/.tools ## a flame graph of the gateway in profile.svg; LOAD=streams, short or requests
	@$(PIP) install --editable '.[bench]'
	$(BIN)/python -m tests.bench.profile $(LOAD)

.venv-litellm: # LiteLLM beside the others in `make bench` (700 MB)
	$(PYTHON) -m venv .venv-litellm
	.venv-litellm/bin/python -m pip --disable-pip-version-check install 'litellm[proxy]'

chaos: $(VENV)/.tools ## processes killed, connections cut, peers slowed and overloaded, for minutes
	$(BIN)/python -m pytest -m chaos

e2e: $(VENV)/.tools ## against a real Flowise from npm (needs node, npm, a compiler, 4 GB of disk; 5 minutes the first time)
	tests/e2e/run

cover: $(VENV)/.tools ## the lines that the tests reach
	$(BIN)/python -m pytest --cov=gateway --cov-report=term-missing:skip-covered

wheel: $(VENV)/.tools ## sdist and wheel in dist/; the bare wheel is installed and tried in each Python found
	@$(PIP) install --editable '.[package]'
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m pytest -m package tests/package

lock: $(VENV)/.tools ## requirements.lock anew: the newest versions of what the image installs, with hashes
	@$(PIP) install --editable '.[package]'
	$(LOCK) pyproject.toml --extra otel --output-file requirements.lock
	$(BIN)/python -c '$(BUILDS)' | $(LOCK) - --output-file deploy/requirements-build.lock

clean: ## remove everything that these targets have made
	rm -rf .venv .venv-* dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
