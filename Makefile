# make demo   see it work: Django, a realtime server, and a chat page
# make test   run the tests, with every storage server that is installed

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=

# Where every server is required, so is MariaDB's driver, which is compiled, and every
# line of the package.
ifeq ($(REALTIME_TICKET_REQUIRE_SERVERS),1)
GROUPS = test mysql
PYTEST = $(BIN)/coverage run -m pytest
REPORT = $(BIN)/coverage combine -q && $(BIN)/coverage report
else
GROUPS = test
PYTEST = $(BIN)/python -m pytest -rs
REPORT = true
endif

.PHONY: demo demo-once test lint docs clean

demo: $(VENV)/.demo
	@$(BIN)/python -m examples.demo

demo-once: $(VENV)/.demo
	@$(BIN)/python -m examples.demo --once

test: $(VENV)/.test
	$(PYTEST) $(ARGS)
	$(REPORT)

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m django makemigrations --check --settings tests.settings

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -n -W -q docs docs/_build/html

clean:
	rm -rf $(VENV) docs/_build

$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -U "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml
	$(BIN)/pip install -q -e ".[redis]" --group demo
	@touch $@

$(VENV)/.test: $(VENV)/.pip pyproject.toml
	$(BIN)/pip install -q -e . $(addprefix --group ,$(GROUPS))
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/pip install -q --group lint
	@touch $@

$(VENV)/.docs: $(VENV)/.test
	$(BIN)/pip install -q --group docs
	@touch $@
