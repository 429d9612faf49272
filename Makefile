# Start with `make demo` and `make test`. `make help` lists all targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
QUICK := tests/test_*.py tests/actions tests/messages tests/settings tests/statechart tests/blocks
# What the tests import that start threads or processes; those of the folders OPTIONAL are few without their options.
WAITS := 'tests\.(processes|preloaded|client\.(client_process|scripted_server)|broker)|Thread|socketserver'
OPTIONAL := tests/browser tests/faults tests/hostile tests/real_brokers
WAITING = $(filter-out $(addsuffix /%,$(PROGRAMS) $(OPTIONAL)),$(shell grep -rlE --include='test_*.py' $(WAITS) tests))
PROGRAMS := tests/bench tests/deploy tests/mutants tests/packaging tests/programs
# If set, each test worker and each daemon of a test compiles all code again, which takes a third of the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo check test lint test-python test-waiting test-computing test-programs test-field test-pythons test-model test-brokers test-browser screenshots test-faults test-faults-long test-hostile fuzz soak-client mutants bench bench-short soak pins sbom audit docs site dist clean
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10 --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## Run a demonstration on loopback with a crash and an outage
	$(BIN)/fastmon-daemon demo

check: lint ## Run the linters and the quick tests: before each commit
	$(BIN)/pytest -q -n 2 $(QUICK)

test: $(STAMP) ## Run the linters and all tests that need only Python
	@$(MAKE) --no-print-directory -j 2 lint test-python

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The first line compiles the tests once; else each worker compiles all of them.
test-python: $(STAMP)
	@$(BIN)/pytest -qq --collect-only >/dev/null
	@$(MAKE) --no-print-directory -j 2 test-waiting test-computing

# Each worker collects all its tests, so those that compute have few, and those that wait for threads and processes many.
test-waiting:
	$(BIN)/pytest -q -n 7 --dist worksteal -o cache_dir=.pytest_cache/waiting $(WAITING)

test-computing:
	$(BIN)/pytest -q -n 2 --dist worksteal $(addprefix --ignore=,$(PROGRAMS) $(WAITING))

test-programs: $(STAMP) ## Test whole programs: packages, services, shells, users, proxies, all tellers, bench, mutants (2 minutes)
	$(BIN)/pytest -q -n 8 --dist worksteal $(PROGRAMS)

test-field: $(STAMP) ## Run the tests of what the field found, which are in `make test` and `make test-programs` (3 minutes)
	$(BIN)/pytest -q -m field -n 8 --dist worksteal

test-pythons: $(STAMP) ## Run the tests most at risk with each newer Python that is here or that uv can install
	$(BIN)/python -m tests.pythons

test-model: $(STAMP) ## Test engine and outbox against a simple model: 200 examples of 50 steps
	FASTMON_TEST_MODEL=200 $(BIN)/pytest -q tests/engine/test_model.py

test-brokers: $(STAMP) ## Test against the embedded broker, ActiveMQ Classic and Artemis
	$(BIN)/python tests/real_brokers/install.py
	$(BIN)/pytest -q tests/real_brokers --brokers embedded,classic,artemis -n 3 --dist loadgroup

test-browser: $(STAMP) ## Test the web page of the client in headless Chromium
	$(BIN)/python -m tests.browser.install
	$(BIN)/pytest -q -m browser -n 3 --dist worksteal tests/browser

screenshots: $(STAMP) ## Update the screenshots in README.md and docs/ (2 minutes)
	$(BIN)/python -m tests.browser.install
	$(BIN)/python -m tests.browser.screenshots

test-faults: $(STAMP) ## Run the short fault matrix and write docs/reliability.md
	$(BIN)/python tests/real_brokers/install.py
	$(BIN)/pytest -q tests/faults --faults short -n 2 --dist loadgroup

test-faults-long: $(STAMP) ## Run the long fault matrix: 200 kills, 10 000 STFs (1 hour)
	$(BIN)/python tests/real_brokers/install.py
	$(BIN)/pytest -q tests/faults --faults long -n 2 --dist loadgroup

test-hostile: $(STAMP) ## Run the attacks and write their table in docs/security.md (5 minutes)
	$(BIN)/pytest -q tests/hostile --hostile

fuzz: $(STAMP) ## Fuzz the message parser with 100 000 inputs (minutes)
	FASTMON_TEST_FUZZ=100000 $(BIN)/pytest -q tests/messages/test_inbound.py --timeout 1800

soak-client: $(STAMP) ## Check the memory use of the client with 200 000 events (minutes)
	FASTMON_TEST_SOAK=200000 $(BIN)/pytest -q -s tests/client/test_soak.py

mutants: $(STAMP) ## Check that the tests detect 150 random mutations (1 hour)
	$(BIN)/python -m tests.mutants $(MUTANTS)

bench: $(STAMP) ## Run the benchmarks and write docs/performance.md; the last line is one JSON object (18 minutes)
	$(BIN)/python -m bench

bench-short: $(STAMP) ## Run a short form of the benchmarks, which fails only if a figure is absurd (1 minute)
	$(BIN)/python -m bench --short

MINUTES ?= 60
soak: $(STAMP) ## Run the daemon under random faults for MINUTES=60; it may lose nothing, and nothing may grow
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

dist: $(STAMP) ## Build wheel, sdist and dist/fastmon-daemon.pyz, one file that needs only Python
	rm -rf dist build/zipapp
	$(BIN)/uv build --quiet --out-dir dist .
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target build/zipapp --require-hashes -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target build/zipapp --no-deps dist/*.whl
	$(BIN)/uv tool run --quiet --from shiv==1.0.8 shiv --site-packages build/zipapp --compressed --reproducible \
	  --python '/usr/bin/env python3' --entry-point fastmon_daemon.cli:main --output-file dist/fastmon-daemon.pyz

pins: $(STAMP) ## Update constraints.txt and requirements.txt to the newest versions, with hashes
	$(BIN)/python docs/supply_chain.py pins

sbom: $(STAMP) ## Write an SBOM (CycloneDX) of all that is installed to sbom.cdx.json
	$(BIN)/python docs/supply_chain.py sbom > sbom.cdx.json

audit: $(STAMP) ## Check pins for known vulnerabilities (else for a recorded review), and the vendored files
	$(BIN)/python docs/supply_chain.py audit

docs: site ## Build the site of the documents into build/site, strictly, and run all their blocks of code
	$(BIN)/pytest -q -m documents -n 2 tests/blocks

site: $(STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build -q -n -W --keep-going -c docs . build/site

clean: ## Remove the virtual environment, build files and caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .mutants .pythons .soak
