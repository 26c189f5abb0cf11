# Everything by Python packages alone: nothing else has to be on the machine, not even Docker.

PYTHON ?= python3
VENV := .venv
# Official clients that clash with what else is pinned, each in an environment of its own.
CLIENTS := .local/clients
SEEDS ?= 10
# Every dependency stands in the files: none has to be looked for, which older pips do wrongly.
PIP_INSTALL := $(VENV)/bin/pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r
TOO_OLD := Python 3.11 or newer is needed: make PYTHON=python3.12
NO_VENV := no virtual environment could be made (Debian: apt install python3-venv)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-all dev bench bench-ledger up down test faults rules chaos integration check format

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.dev $(CLIENTS)/constant-contact/.installed ## virtual environments with everything pinned

demo: $(VENV)/.run ## the main job once, on real servers, judged
	$(VENV)/bin/python -m local demo

demo-all: $(VENV)/.run ## the main job once for every pair of a source and a destination; minutes
	$(VENV)/bin/python -m local demo-all

dev: $(VENV)/.run ## everything running, until Ctrl-C
	$(VENV)/bin/python -m local up

bench: $(VENV)/.run ## what it costs, measured; BENCH="job --contacts 20000" chooses
	$(VENV)/bin/python -m benchmarks $(BENCH)

bench-ledger: $(VENV)/.run ## what the quota ledger stands, and how a plain one does beside it
	$(VENV)/bin/python -m benchmarks.ledger

up: ## everything in containers (needs Docker)
	docker compose up --build --detach --wait

down: ## end the containers and forget their data
	docker compose down --volumes

test: $(VENV)/.dev $(CLIENTS)/constant-contact/.installed ## every test, on real servers out of packages
	$(VENV)/bin/python -m tests.lanes

faults: $(VENV)/.dev ## some minutes: real processes killed at each step, links cut, servers killed
	$(VENV)/bin/pytest tests/faults tests/hostile tests/integration -m long

rules: $(VENV)/.dev ## long: each rule taken out of the code, to see its test fail (RULES="CC1 SF")
	$(VENV)/bin/python -m tests.rules $(RULES)

chaos: $(VENV)/.dev ## long: everything dies again and again (SEEDS=10, CHAOS_SEED=…, QUOTA_CHAOS_SEED=…)
	CHAOS=full CHAOS_SEEDS=$(SEEDS) $(VENV)/bin/pytest \
	  tests/integration/test_chaos.py tests/integration/test_quota_chaos.py

integration: $(VENV)/.dev ## the tests that need servers, on containers (needs Docker)
	CONTACTSYNC_STACK=containers $(VENV)/bin/pytest -m "integration and not long"

check: $(VENV)/.dev ## what is held without running anything; changes no file
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.dev ## let ruff mend what it can
	$(VENV)/bin/ruff check --fix --exit-zero
	$(VENV)/bin/ruff format

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo '$(TOO_OLD)'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo '$(NO_VENV)'; exit 1; }

$(VENV)/.run: requirements/run.txt | $(VENV)/bin/pip
	@echo 'installing $< into $(VENV)'
	@$(PIP_INSTALL) $<
	@touch $@

$(VENV)/.dev: requirements/dev.txt | $(VENV)/bin/pip
	@echo 'installing $< into $(VENV)'
	@$(PIP_INSTALL) $<
	@touch $@

$(CLIENTS)/%/.installed: requirements/clients-%.txt | $(VENV)/bin/pip
	@echo 'installing $< into $(@D)'
	@$(VENV)/bin/python -m venv $(@D)
	@$(@D)/bin/pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r $<
	@touch $@
