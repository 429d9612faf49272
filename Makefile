# Two commands for a newcomer: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where it is set, each worker and each daemon of a test compiles all of our code anew: a third of the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint test-python test-model test-brokers test-browser screenshots test-faults test-faults-long fuzz soak-client mutants bench docs clean
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10 -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## See the main job: broker, monitor and a run on loopback, with a kill -9 and an outage
	$(BIN)/fastmon-daemon demo

test: $(STAMP) ## Everything that needs nothing but Python
	@$(MAKE) --no-print-directory -j 2 lint test-python

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test-python: $(STAMP)
	$(BIN)/pytest -q -n 5 --dist worksteal

test-model: $(STAMP) ## Engine and outbox against a simple model: 200 lives of 50 steps
	FASTMON_TEST_MODEL=200 $(BIN)/pytest -q tests/engine/test_model.py

test-brokers: $(STAMP) ## The same broker suite against the embedded broker, ActiveMQ Classic and Artemis
	$(BIN)/python tests/real_brokers/install.py
	$(BIN)/pytest -q tests/real_brokers --brokers embedded,classic,artemis

test-browser: $(STAMP) ## The page of the client in headless Chromium
	$(BIN)/python -m tests.browser.install
	$(BIN)/pytest -q -m browser tests/browser

screenshots: $(STAMP) ## Take the pictures in README.md and docs/ anew: two minutes of a run
	$(BIN)/python -m tests.browser.install
	$(BIN)/python -m tests.browser.screenshots

test-faults: $(STAMP) ## The matrix of faults in its short form; writes docs/reliability.md
	$(BIN)/python tests/real_brokers/install.py
	$(BIN)/pytest -q tests/faults --faults short -n 2 --dist loadgroup

test-faults-long: $(STAMP) ## The same with 200 kills, minutes of outage and 10 000 STFs (by hand: an hour)
	$(BIN)/python tests/real_brokers/install.py
	$(BIN)/pytest -q tests/faults --faults long -n 2 --dist loadgroup

fuzz: $(STAMP) ## 100 000 inputs for the parser of messages (by hand: some minutes)
	FASTMON_TEST_FUZZ=100000 $(BIN)/pytest -q tests/messages/test_inbound.py -k any_input --timeout 1800

soak-client: $(STAMP) ## A day of the client in scaled time, 200 000 events: memory must be flat (by hand: some minutes)
	FASTMON_TEST_SOAK=200000 $(BIN)/pytest -q -s tests/client/test_soak.py

mutants: $(STAMP) ## Whether the tests find 150 random mutations of the core, each alone (by hand: about an hour)
	$(BIN)/python -m tests.mutants $(MUTANTS)

bench: $(STAMP) ## Measurements side by side, as ratios; the last line is one JSON object
	$(BIN)/python -m bench

docs: $(STAMP) ## Write the generated documents anew: help texts, settings, diagrams
	$(BIN)/python docs/generate.py

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .mutants
