# `make` alone shows what there is. Everything works on a fresh clone: Python 3.11, Go 1.26, kubectl and a shell.

PYTHON ?= python3.11
PYTHON312 ?= python3.12
BIN := .venv/bin
INSTALLED := .venv/.installed
COMPILE := uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --universal
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install

.DEFAULT_GOAL := help
# The order of prerequisites is the order of work: one cluster, two cores.
.NOTPARALLEL:
.PHONY: help install cluster cluster-down demo demo-year demo-tokens demo-down test announce-test unit e2e golden simulate prove-money focus faults check generate lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with every dependency pinned by hash
	@echo 'install: .venv is up to date' >&2

$(INSTALLED): requirements.lock pyproject.toml
	@for python in '$(PYTHON)' python3.11 python3.12 python3.13 python3.14 python3; do \
		"$$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'install: needs Python 3.11 or newer with venv and found none; name one with `make install PYTHON=/path/to/python`' >&2; \
		exit 1; \
	fi; \
	echo "install: .venv with $$("$$python" --version), about a minute" >&2; \
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || "$$python" -m venv --clear .venv
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

cluster: $(INSTALLED) ## Start the local control plane; the last line is an export for your shell
	@$(BIN)/python -m e2e.cluster up

cluster-down: $(INSTALLED) ## Stop it
	@$(BIN)/python -m e2e.cluster down

demo: $(INSTALLED) ## Buy a pool, serve a model on it and watch what waits (KEEP=1 leaves it running)
	@$(BIN)/python -m e2e.demo up $(if $(KEEP),--keep)

demo-year: $(INSTALLED) ## A contract of a year in a minute: charges, a price cut, a swap, the end, and the invoices
	@$(BIN)/python -m e2e.demo year

demo-tokens: $(INSTALLED) ## Token units on a real Envoy and a real inference server: bought, backed, published, and refused above
	@$(BIN)/python -m e2e.demo tokens

demo-down: $(INSTALLED) ## Stop a demo that was left running
	@$(BIN)/python -m e2e.demo down

test: announce-test check unit e2e ## Everything that CI runs
	@echo 'test: all passed'

announce-test:
	@echo 'test: style, types and generated files; unit, property, contract and fault tests; the end-to-end suite on two control planes of its own. About 27 minutes on two cores; the first run on a machine builds the control plane, Helm and a gateway and takes about 14 more.'

unit: $(INSTALLED) ## The tests that need no cluster
	@$(BIN)/pytest tests -n auto --dist worksteal -q

e2e: $(INSTALLED) ## The end-to-end suite, on two control planes that it starts and stops itself
	@$(BIN)/pytest e2e -n auto --dist loadfile --no-loadscope-reorder -q

faults: $(INSTALLED) ## Faults between operator and API server, for longer than in `make test` (SEEDS=1 OUTAGE=60)
	@$(BIN)/python -m e2e.faults --seeds $(or $(SEEDS),1) --outage $(or $(OUTAGE),60)

golden: $(INSTALLED) ## Tell the rollout stories anew; read the difference before you commit it
	@$(BIN)/pytest tests/golden -n0 -q --update-golden

simulate: $(INSTALLED) ## Seeded worlds against the invariants (SEEDS=500)
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),500)

prove-money: $(INSTALLED) ## Charges and invoices against a second implementation, on random contracts (CASES=1000000)
	@$(BIN)/python -m tests.money --cases $(or $(CASES),1000000)

focus: $(INSTALLED) .focus/.installed ## The FOCUS export against the FinOps Foundation's validator (Python 3.12 only: PYTHON312=…)
	@FOCUS_PYTHON=.focus/bin/python $(BIN)/pytest tests/focus -n0 -q -s

.focus/.installed:
	@'$(PYTHON312)' -m venv --clear .focus || { echo 'focus: needs Python 3.12; name one with `make focus PYTHON312=/path/to/python3.12`' >&2; exit 1; }
	@.focus/bin/python -m pip --disable-pip-version-check --quiet install 'focus-validator==2.2.1' 'pyarrow<22'
	@touch $@

check: $(INSTALLED) ## Style, types, import rules, dependencies, generated files
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --strict --no-error-summary -p reserved_capacity -p e2e
	@$(BIN)/lint-imports >/dev/null || $(BIN)/lint-imports
	@$(BIN)/deptry . >/dev/null 2>&1 || $(BIN)/deptry .
	@$(BIN)/python -m reserved_capacity.api.generate --check
	@$(BIN)/python -m reserved_capacity.api.chart --check
	@$(BIN)/python -m manifests.argocd.generate --check
	@echo 'check: passed'

generate: $(INSTALLED) ## Write the files that come from the API types
	@$(BIN)/python -m reserved_capacity.api.generate
	@$(BIN)/python -m reserved_capacity.api.chart
	@$(BIN)/python -m manifests.argocd.generate

lock: ## Resolve requirements.lock anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo 'lock: needs uv on PATH (`pip install uv` in an environment of your own)' >&2; exit 1; }
	@$(COMPILE) --group dev pyproject.toml -o requirements.lock
	@$(COMPILE) -c requirements.lock pyproject.toml -o requirements-run.lock
	@$(COMPILE) -c requirements.lock --group build -o requirements-build.lock
	@$(COMPILE) -c requirements.lock --group bench -o requirements-bench.lock
	@$(COMPILE) e2e/gateway/requirements.in -o e2e/gateway/requirements.lock

clean: ## Stop what runs from this checkout and remove what was made here
	@if [ -d .cluster ]; then $(BIN)/python -m e2e.demo down && $(BIN)/python -m e2e.cluster down --purge; fi
	@rm -rf .venv .focus .cluster .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find e2e operator tests -type d -name __pycache__ -prune -exec rm -rf {} +
