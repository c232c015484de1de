# Two commands are enough: `make run` and `make test`.
# PYTHON picks the interpreter (3.11 or newer) for a new .venv.
PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(sort $(wildcard plugins/*))
EDITABLE := $(foreach plugin,$(PLUGINS),-e $(plugin))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
MATRIX := $(addprefix tests/conformance/test_,same_dialect.py across_dialects.py across_node.py any_cut.py \
	validators.py next_turns.py broken_off.py error_matrix.py langchain_loops.py \
	recorded.py::test_a_recorded_reply_on_the_raw_path)
PIECES := pyproject.toml $(wildcard plugins/*/pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help install run test check format bench soak conformance agents clean

help: ## Show what can be done
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: .venv/installed ## Create .venv with the core and every first-party plugin

run: install ## Serve on http://127.0.0.1:4000 with the demo provider
	@$(BIN)/raven-proxy serve $(if $(wildcard raven.toml),--config raven.toml)

test: .venv/tested ## Install what the tests need and run them all
	@$(BIN)/python -m pytest -n 3 -m "not soak" -q

check: .venv/tested ## Lint, format and type-check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: .venv/tested ## Rewrite the files as `check` wants them
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: .venv/tested ## Compare with nginx and a bare aiohttp proxy in one run
	@$(BIN)/python -m tests.bench

soak: .venv/tested ## Run the tests that take minutes
	@$(BIN)/python -m pytest -m soak -q --timeout 1800

conformance: .venv/tested ## Hold recorded exchanges of every vendor against every face, and count
	@$(BIN)/python -m pytest -n 2 --dist loadfile -q -p tests.conformance.scoreboard $(MATRIX)

agents: .venv/tested ## Let Claude Code and Codex work through the gateway (installs 640 MB)
	@tests/install agents
	@RAVEN_AGENTS=1 $(BIN)/python -m pytest -q tests/conformance/test_agents.py

clean: ## Remove what was installed and generated, but not data
	@rm -rf .venv node_modules tests/clients/node_modules tests/clients/agents/node_modules .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python $(PIECES)
	@echo "Installing the core and $(words $(PLUGINS)) plugins …"
	@$(PIP) -e . $(EDITABLE)
	@touch $@

.venv/tested: .venv/installed tests/clients/package.json tests/install
	@echo "Installing what the tests need …"
	@$(PIP) -e ".[dev,clients]" $(EDITABLE)
	@tests/install
	@touch $@
