# Everything from a fresh Debian or Ubuntu with Python 3.11 and make. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PY := .venv/bin/python
IMAGE ?= hedgelock:latest
# pytest processes; many tests only wait, so more than there are cores
WORKERS ?= 4
ARGS ?=

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---------------------------------------------------------------- set-up (done by the others)

.venv/.run-ready: requirements.lock pyproject.toml scripts/setup.sh
	@scripts/setup.sh requirements.lock
	@touch $@

.venv/.dev-ready: requirements-dev.lock pyproject.toml scripts/setup.sh
	@scripts/setup.sh requirements-dev.lock
	@touch .venv/.run-ready $@

.PHONY: setup kafka-setup
setup: .venv/.dev-ready ## everything for development, without running anything

kafka-setup: scripts/setup_kafka.sh
	@scripts/setup_kafka.sh

# ---------------------------------------------------------------- use

.PHONY: run
run: .venv/.run-ready ## the demo: simulator, HedgeLock and an unprotected twin, no keys needed
	@.venv/bin/hedgelock run $(ARGS)

# ---------------------------------------------------------------- prove

.PHONY: test test-core test-containers soak bench lint types
test: .venv/.dev-ready kafka-setup ## all tests, real Kafka included, and the coverage gates
	@rm -f .coverage .coverage.*
	@scripts/with_kafka.sh scripts/run_tests.sh $(WORKERS) $(ARGS)
	$(PY) scripts/check_coverage.py

test-core: .venv/.dev-ready ## the quick ones: domain, services, architecture; no Kafka
	$(PY) -m pytest -n $(WORKERS) --dist loadfile -m "not soak and not slow and not kafka" \
	  tests/domain tests/services tests/architecture tests/telemetry tests/test_config.py $(ARGS)

soak: .venv/.dev-ready kafka-setup ## the long ones: unscaled demo, twenty kills on each bus
	$(PY) -m pytest -m soak -s -p no:randomly --timeout=0 $(ARGS)

test-containers: .venv/.dev-ready kafka-setup ## build the image and run every service as a container (root, podman)
	@scripts/test_containers.sh $(ARGS)

bench: .venv/.dev-ready kafka-setup ## speed and memory against their bars, into bench/results.json
	$(PY) -m bench $(ARGS)

lint: .venv/.dev-ready ## ruff and the import contracts
	$(PY) -m ruff check src tests scripts
	.venv/bin/lint-imports --no-cache

types: .venv/.dev-ready ## mypy --strict
	$(PY) -m mypy

# ---------------------------------------------------------------- keep

.PHONY: config-docs lock docker-build clean
config-docs: .venv/.dev-ready ## write .env.example and docs/reference/config.md anew
	$(PY) scripts/write_config_docs.py

lock: ## resolve the dependencies anew (needs uv)
	uv pip compile -q --generate-hashes --universal --no-header --group dev --group build pyproject.toml -o requirements-dev.lock
	uv pip compile -q --generate-hashes --universal --no-header --group build -c requirements-dev.lock pyproject.toml -o requirements.lock

docker-build: ## the one image of every service
	docker build -t $(IMAGE) .

clean: ## remove everything that was built, not your data
	rm -rf .venv .cache .coverage .coverage.* htmlcov build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
