# `make` lists the targets. Two are enough to begin: `make up`, `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
# Test processes at once; each starts servers of its own.
JOBS ?= 2
# Further arguments: `make up ARGS='--port 8001 --home /srv/rag'`, `make test ARGS='tests/web -x'`.
ARGS ?=

# Compiled files are kept even where the environment forbids it: without them each process compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

INSTALLED := $(VENV)/installed
INSTALLED_DEV := $(VENV)/installed-dev

.PHONY: help install install-dev up demo test check lint format bench load proof chaos mutation migrate seed env-example lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(INSTALLED) ## into .venv, from the locked versions; instant when nothing has changed

$(INSTALLED): requirements.lock requirements-uv.lock scripts/install.sh
	@scripts/install.sh requirements.lock
	@touch $@

install-dev: $(INSTALLED_DEV) ## what the tests and checks need besides

$(INSTALLED_DEV): requirements-dev.lock $(INSTALLED)
	@scripts/install.sh requirements-dev.lock
	@touch $@

up: $(INSTALLED) ## install, start everything, answer a question from the demo documents, serve on port 8000
	@$(BIN)/nexusrag up $(ARGS)

demo: $(INSTALLED) ## the same, but stop after the answer
	@$(BIN)/nexusrag up --once $(ARGS)

test: $(INSTALLED_DEV) ## all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(INSTALLED_DEV) ## the quick loop: rules, types and the fast tests
	$(BIN)/ruff check --quiet .
	$(BIN)/python scripts/check_house.py
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow" -x $(ARGS)

lint: $(INSTALLED_DEV) ## style, types, layers and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/python scripts/check_house.py
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: $(INSTALLED_DEV) ## rewrite the style
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

bench: $(INSTALLED_DEV) ## quality and speed, with the figures to compare with
	$(BIN)/python -m pytest tests/benchmarks/bench_*.py -s -q --timeout 1800 $(ARGS)

load: $(INSTALLED_DEV) ## load up to five times capacity and a flooding tenant, for three minutes; a report with plots in ARGS (var/load)
	@$(BIN)/python -m tests.benchmarks.load $(ARGS)

proof: $(INSTALLED_DEV) ## product against reference in new worlds, for ARGS seconds (60): how many million decisions, how many differ
	@$(BIN)/python -m tests.proof $(ARGS)

chaos: $(INSTALLED_DEV) ## kills processes at every point of a write, ARGS times (1000), or 'storm 100': everything, at chance: what was lost or doubled
	@$(BIN)/python -m tests.chaos $(ARGS)

mutation: $(INSTALLED_DEV) ## mutants of what decides without a database, for the better part of an hour: score and survivors
	@$(BIN)/python scripts/mutate.py --jobs $(JOBS) $(ARGS)

migrate: $(INSTALLED) ## bring the database to the schema of this release
	@$(BIN)/nexusrag migrate $(ARGS)

seed: $(INSTALLED) ## make the demo tenant, key, corpus and documents
	@$(BIN)/python scripts/seed_demo.py $(ARGS)

env-example: $(INSTALLED) ## write .env.example from the settings
	$(BIN)/python scripts/render_env_example.py

lock: $(INSTALLED) ## lock the dependencies of pyproject.toml anew (UPGRADE=1: newest versions)
	scripts/lock.sh

clean: ## remove .venv and caches; data in ./var stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
