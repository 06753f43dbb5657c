# `make` lists the targets: what follows each `##` is its help. Everything runs from .venv, which
# `make setup` builds from the hashed lock.

SHELL := /bin/bash
.DEFAULT_GOAL := help

BIN := .venv/bin
CODE := headrace resources io_managers platform_assets sensors jobs demo benchmarks docs tests .ci
# Tests that wait for servers leave two workers on two cores idle for a fifth of the time; three do
# not. PYTEST_WORKERS=0 runs in one process.
PYTEST_WORKERS ?= 3
# A module's tests stay in one worker, so its servers are started once; all of Spark's in one, and
# what takes long comes first (tests/workers.py).
PYTEST_DIST ?= loadscope
PYTEST := $(BIN)/pytest -n $(PYTEST_WORKERS) --dist $(PYTEST_DIST)
# `slow` marks what runs nightly.
NOT_FAST := slow or spark or s3 or crash or e2e or property or contract

.PHONY: help setup demo ui fmt lint types imports test test-fast test-contract test-property \
	test-e2e test-orders test-spark test-crash test-nightly bench check docs lock clean

help:
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## make .venv from requirements.lock (Python 3.11 to 3.13)

.venv/.ready: requirements.lock pyproject.toml .ci/setup
	@echo "setup: installing requirements.lock into .venv"
	@.ci/setup

demo: setup ## a year of real sales, from sources to marts
	@$(BIN)/headrace demo run

ui: setup ## Dagster's UI over the same data
	@$(BIN)/headrace dev

fmt: setup ## format the code and mend what ruff can mend
	@$(BIN)/ruff check --quiet --fix-only $(CODE)
	@$(BIN)/ruff format $(CODE)

lint: setup ## style of Python, SQL and text, as pre-commit checks it
	@$(BIN)/pre-commit run --all-files

types: setup ## mypy, strict
	@$(BIN)/mypy

imports: setup ## who may import whom
	@$(BIN)/lint-imports --no-logo

test: setup ## every test but the nightly ones
	@$(PYTEST) -m "not slow"

test-fast: setup ## functions, plans, configuration, small frames: within a minute
	@$(PYTEST) -m "not ($(NOT_FAST))"

test-contract: setup ## each store against the contract of its kind
	@$(PYTEST) -m "contract and not slow"

test-property: setup ## random histories against naive answers
	@$(PYTEST) -m "property and not slow"

test-e2e: setup ## from sources to marts, and the documented commands
	@$(PYTEST) -m "e2e and not slow"

test-orders: setup ## the demo's year in ten random orders: half an hour
	@$(BIN)/pytest -n 0 tests/e2e/test_orders.py

test-spark: setup ## transformations on Spark (needs Java 17)
	@$(PYTEST) -m "spark and not slow"

test-crash: setup ## killed at every named point, the long round included
	@$(PYTEST) -m crash

test-nightly: setup ## what make test leaves out, for an hour or two
	@$(PYTEST) -m slow

bench: setup ## the platform against a hand-written baseline, and sources; HEADRACE_EXTERNAL_BENCHMARK=DIR: and another benchmark's files and checks
	@$(BIN)/python -m benchmarks.run
	@$(BIN)/python -m benchmarks.sources
	@if [ -n "$$HEADRACE_EXTERNAL_BENCHMARK" ]; then $(BIN)/python -m benchmarks.external; fi

check: lint types imports test ## all that a change must pass

docs: setup ## write the generated pages of docs/reference
	@$(BIN)/python -m docs.generate

lock: setup ## pin requirements.in anew (LOCK_FLAGS=--upgrade takes newer versions)
	@PATH="$$PATH:$(CURDIR)/.venv-uv/bin" uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --custom-compile-command "make lock" $(LOCK_FLAGS) \
		--output-file requirements.lock requirements.in

clean: ## delete caches and builds; .venv and the data in .headrace stay
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache \
		dbt/target dbt/logs
	@find $(wildcard $(CODE)) -type d -name __pycache__ -prune -exec rm -rf {} +
