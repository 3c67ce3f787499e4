# Chainlake's development commands; `make` lists them. GNU make 3.81 (macOS) is enough.
# Every target first makes the environment, or brings it up to date when the pins have changed.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The library that talks to IB. `make setup CLIENT=ib_async` (or demo, dashboard) takes ib_insync's successor, in an
# environment of its own: each of the two installs a module `eventkit`. Lint and the whole of the tests need the default.
CLIENT := ib_insync
ifeq ($(CLIENT),ib_insync)
VENV := .venv
RUN_TIME := requirements.lock
else
VENV := .venv-$(CLIENT)
RUN_TIME := requirements-$(CLIENT).lock
endif
# What the program needs, and what developing it needs besides. A host that only runs it: make setup PINS=requirements.lock
PINS := $(RUN_TIME) requirements-dev.lock
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.chainlake-ready

# Interpreters to try, in this order. A pyenv shim that exists may still fail, so each is run. To choose one yourself:
# make setup PYTHON=/path/to/python3.12
PYTHON ?= python3.13 python3.12 python3.11 python3 python
# Test processes. Some tests wait for a gateway more than they compute: three suit two cores.
WORKERS ?= 3
LAKE ?= data/demo
# Tests to run; all of them when it is empty.
TESTS :=
COMPILE = $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
IB_ASYNC := --extra ib-async --no-emit-package ib-insync --no-emit-package eventkit
# What a change needs before a commit: the pure tests and the small ones, by measurement. Left out is what builds with dbt,
# captures for seconds by a gateway, starts processes by the dozen, or searches for examples.
FAST := tests/test_*.py tests/option_pricing tests/chainlake/cli tests/chainlake/ops tests/flows tests/ingest \
  tests/lake tests/models/test_corporate_actions_csv.py tests/models/test_docs.py tests/models/test_sources.py \
  tests/tws_simulator
NOT_FAST := \
  $(addprefix chainlake/ops/,test_install monitoring/test_every_cause monitoring/test_selfcheck \
    rollout/test_gate_command rollout/test_rules) \
  $(addprefix flows/,test_clock_evidence test_logs) \
  $(addprefix ingest/,test_capture test_discovery test_engine test_fleet test_open_interest test_pacing test_probe \
    test_probe_history test_recovery test_recovery_slot) \
  $(addprefix lake/,test_answers test_as_of test_backup test_captures_at_once test_catalog_views test_compaction \
    test_cookbook test_crash_storm test_damage test_lock test_retention test_s3 test_untrusted test_vacuum) \
  $(addprefix tws_simulator/,test_fuzz test_limits test_replay test_synthetic)

# dbt, as the SQL linter runs it: in memory, and without telling its makers.
DBT_OFFLINE := CHAINLAKE_DBT_DATABASE=:memory: DBT_SEND_ANONYMOUS_USAGE_STATS=false

# The clients of the conformance suite, each in an environment of its own: two of them install a module `eventkit`.
CLIENTS := ib_insync ib_async ibapi
CLIENT_VENVS := .venv-clients
CLIENT_STAMPS := $(CLIENTS:%=$(CLIENT_VENVS)/%/.ready)

# Programs of others that run on TWS, each in an environment of its own; nautilus_trader's takes 700 MB.
APPLICATIONS := nautilus_trader thetagang ezib_async
APPLICATION_VENVS := .venv-applications
APPLICATION_STAMPS := $(APPLICATIONS:%=$(APPLICATION_VENVS)/%/.ready)

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

.PHONY: help setup demo test test-fast test-long test-slow test-crash test-kills test-crash-long test-rehearsal test-clients test-applications test-ib-async coverage test-wheel lint format typecheck bench pictures rehearsal-week dashboard lock sbom clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make or update the environment: .venv, or .venv-ib_async with CLIENT=ib_async

demo: $(STAMP) ## Record one simulated trading day, end to end, into data/demo
	$(BIN)/chainlake demo

test: $(STAMP) ## Run the tests, without the long and the slow ones
	$(PY) -m pytest -q -n $(WORKERS) --dist loadfile $(TESTS)

test-fast: $(STAMP) ## Run what a change needs before a commit: the pure and the small tests, in less than a minute
	$(PY) -m pytest -q -n $(WORKERS) --dist loadfile $(FAST) --ignore tests/flows/prefect $(NOT_FAST:%=--ignore tests/%.py)

test-long: $(STAMP) ## Run the long tests: whole days replayed, repeated, killed in the middle; S3; dbt from the shell
	$(PY) -m pytest -q -n $(WORKERS) --dist loadfile -m long

test-slow: $(STAMP) ## Run the slow tests: soak, scale and fault storms
	$(PY) -m pytest -q -m slow --timeout 3600

test-crash: $(STAMP) ## Kill writers, maintainers and dbt 200 times, and look for what was lost
	CHAINLAKE_KILLS=180 CHAINLAKE_DBT_KILLS=20 $(PY) -m pytest -q -m slow --timeout 3600 tests/lake/test_crash_storm.py

test-kills: $(STAMP) ## Kill captures over several connections 200 times, and look for answers that were lost
	CHAINLAKE_CAPTURE_KILLS=200 $(PY) -m pytest -q -m slow --timeout 7200 tests/ingest/test_kills.py

test-crash-long: $(STAMP) ## The same with 2,000 kills: an hour or more
	CHAINLAKE_KILLS=1800 CHAINLAKE_DBT_KILLS=200 $(PY) -m pytest -q -m slow tests/lake/test_crash_storm.py

# It looks at seconds of a market that goes 60 times as fast: one worker has the host to itself.
test-rehearsal: $(STAMP) ## A day of the schedule by a real Prefect server and worker, in minutes
	$(PY) -m pytest -q -m rehearsal --timeout 1800 tests/flows/prefect

test-clients: $(STAMP) $(CLIENT_STAMPS) ## Run the conformance suite of the simulated gateway by three foreign clients
	@failed=''; \
	for client in $(CLIENTS); do \
	  echo "-- $$client"; \
	  (cd tests/clients && ../../$(CLIENT_VENVS)/$$client/bin/python -m pytest -q) || failed="$$failed $$client"; \
	done; \
	if [ -n "$$failed" ]; then echo "The conformance suite failed by:$$failed" >&2; exit 1; fi

test-applications: $(STAMP) $(APPLICATION_STAMPS) ## Run programs of others on the simulated gateway: nautilus_trader, thetagang, ezib-async
	@failed=''; \
	for application in $(APPLICATIONS); do \
	  echo "-- $$application"; \
	  (cd tests/applications && ../../$(APPLICATION_VENVS)/$$application/bin/python -m pytest -q test_$$application.py) || \
	    failed="$$failed $$application"; \
	done; \
	if [ -n "$$failed" ]; then echo "Not read by:$$failed" >&2; exit 1; fi

# These are the tests that reach a gateway through ingest.broker; those of pure modules have run with ib_insync. They look at
# seconds: one worker.
test-ib-async: ## Run the broker, capture and discovery tests with ib_async
	$(MAKE) CLIENT=ib_async WORKERS=1 test \
	  TESTS="tests/ingest $(addprefix --ignore tests/ingest/test_,$(addsuffix .py,freshness selection sessions settings universe))"

coverage: $(STAMP) ## Show which lines and branches the tests run, those of other processes included
	@$(PY) -c 'import pytest_cov' 2>/dev/null || { echo "make coverage needs pytest-cov: make setup installs it" >&2; exit 1; }
	$(PY) -m pytest -q -n $(WORKERS) --dist loadfile --cov --cov-report term:skip-covered $(TESTS)

test-wheel: $(STAMP) ## Build the wheel, install it outside the tree, and run it there from an empty folder
	$(PY) -m pytest -q -m wheel --timeout 1800 tests/wheel

lint: $(STAMP) ## Check style, formatting, layers, types and SQL
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(BIN)/lint-imports
	$(PY) -m mypy
	$(DBT_OFFLINE) $(PY) -m sqlfluff lint --disable-progress-bar dbt_project

format: $(STAMP) ## Format the Python code and repair what ruff can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

typecheck: $(STAMP) ## Check types only
	$(PY) -m mypy

bench: $(STAMP) ## Measure the figures the documents state
	for script in benchmarks/*.py; do $(PY) $$script || exit 1; done

pictures: $(STAMP) ## Make the pictures of docs/images: a smile of a real day, Prefect's pages of a rehearsed one, in Chromium
	$(PY) docs/smile_picture.py
	$(PY) docs/pictures.py

rehearsal-week: $(STAMP) ## A simulated week by the real Prefect, an hour; writes docs/rehearsal-week.md
	$(PY) docs/rehearsal_week.py

dashboard: $(STAMP) ## Serve the dashboard of LAKE (default data/demo) on 127.0.0.1
	$(BIN)/chainlake dashboard --lake $(LAKE)

# The lock of development has what run time has not, so that it goes with either client library.
lock: $(STAMP) ## Renew the lock files; UPGRADE=--upgrade takes newer versions
	@$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet uv
	$(COMPILE) $(UPGRADE) --extra dbt-tasks --extra mcp -o requirements.lock pyproject.toml
	cp requirements.lock requirements-ib_async.lock
	$(COMPILE) --extra dbt-tasks --extra mcp $(IB_ASYNC) -o requirements-ib_async.lock pyproject.toml
	$(COMPILE) $(UPGRADE) --extra dev --constraint requirements.lock -o requirements-dev.lock pyproject.toml \
	  $$(sed -n 's/^\([A-Za-z0-9_.-]*\)==.*/--no-emit-package \1/p' requirements.lock)
	for client in $(CLIENTS); do \
	  $(COMPILE) $(UPGRADE) -o tests/clients/requirements/$$client.txt tests/clients/requirements/$$client.in || exit 1; \
	done

sbom: $(STAMP) ## Write what the program consists of, by CycloneDX, into dist/chainlake.cdx.json
	mkdir -p dist
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/chainlake.cdx.json $(RUN_TIME)

clean: ## Remove the environment and caches; lakes and state stay
	rm -rf .venv .venv-ib_async $(CLIENT_VENVS) $(APPLICATION_VENVS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf dbt_project/target dbt_project/logs logs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A lock is complete: with --no-deps nothing is resolved, which pip cannot do with hashes where a pin has extras.
# uv is only a faster pip here. It does not read pip's configuration, so where it cannot reach an index pip may.
$(STAMP): pyproject.toml $(PINS)
	@set -e; \
	if ! $(PY) -c '$(SUPPORTED)' 2>/dev/null; then \
	  chosen=''; \
	  for candidate in $(PYTHON); do \
	    if "$$candidate" -c 'import ensurepip, venv; $(SUPPORTED)' >/dev/null 2>&1; then chosen="$$candidate"; break; fi; \
	  done; \
	  if [ -n "$$chosen" ]; then \
	    echo "Making $(VENV) with $$chosen ($$("$$chosen" -c 'import platform; print(platform.python_version())'))"; \
	    "$$chosen" -m venv --clear $(VENV); \
	  elif command -v uv >/dev/null; then \
	    echo "Making $(VENV) with a Python that uv provides"; \
	    uv venv --quiet --clear --seed --python '>=3.11,<3.14' $(VENV); \
	  else \
	    echo "No usable Python: Chainlake needs 3.11, 3.12 or 3.13 with its venv module; tried: $(PYTHON)." >&2; \
	    echo "Install one (Debian: python3.11-venv; macOS: brew install python@3.13) or name it: make setup PYTHON=..." >&2; \
	    exit 1; \
	  fi; \
	fi; \
	if command -v uv >/dev/null && uv pip install --quiet --no-deps --python $(PY) $(PINS:%=-r %); then :; else \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-deps $(PINS:%=-r %); \
	fi; \
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .; \
	touch $@; \
	echo "$(VENV) is ready"

# Without a pip of its own: the main environment's installs, and finds out whether all fits together.
$(APPLICATION_VENVS)/%/.ready: tests/applications/requirements/%.txt | $(STAMP)
	@set -e; \
	$(PY) -m venv --clear --without-pip $(@D); \
	$(PY) -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check --no-deps -r $<; \
	$(PY) -m pip --python $(@D)/bin/python check --disable-pip-version-check; \
	touch $@; \
	echo "$(@D) is ready"

$(CLIENT_VENVS)/%/.ready: tests/clients/requirements/%.txt | $(STAMP)
	@set -e; \
	$(PY) -m venv --clear --without-pip $(@D); \
	$(PY) -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check --no-deps -r $<; \
	$(PY) -m pip --python $(@D)/bin/python check --disable-pip-version-check; \
	touch $@; \
	echo "$(@D) is ready"
