# make demo                  see it work: Django, a realtime server, and a chat page
# make demo SERVER=tornado   the same with one of the servers in examples/
# make quick                 run the tests that need no server, within a minute
# make test                  run the tests, with every server that is installed
# make test ARGS="tests/test_views.py -k csrf"    run some of them, in one process
# make bench                 measure everything again, and write it into the docs
# make bench-quick           rough figures within a minute
# make faults                break these servers in every way, and see what comes of it
# make mutants               break the package in small ways, and see that tests notice
# make mutants SINCE=main    only where files differ from that revision of git

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=
WORKERS ?= 4
SERVER ?=
SINCE ?=

# Most tests wait, so more of them run side by side than there are processors.
PYTEST = $(BIN)/python -m pytest -rfEs
CROWD = $(PYTEST) -q -n $(WORKERS) --dist worksteal

# Where every server is required, so is MariaDB's driver, which is compiled, and every
# line of the package.
ifeq ($(REALTIME_TICKET_REQUIRE_SERVERS),1)
GROUPS = test mysql bench engines
MEASURED = rm -f .coverage*; COVERAGE_PROCESS_START=pyproject.toml
REPORT = $(BIN)/coverage combine -q && $(BIN)/coverage report
else
GROUPS = test
MEASURED =
REPORT = true
endif

# The clauses of the contract with many threads, processes or tickets would take twice the
# time if they were measured. On local memory, where they take none, they are.
MANY = racing or threads_share or survives_fork or side_by_side or large or many_users
CROWDS = test_contract and not LocMem and ($(MANY))

# What the workers of make faults count, and the test that compares it with the page.
FIGURES = $(abspath $(VENV)/figures)
TABLE = tests/faults/test_table.py

# Hundreds of processes import the package and the tests. One of them compiles these.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-once quick test faults mutants bench bench-quick lint docs clean

demo: $(VENV)/.demo
	@$(if $(SERVER),$(BIN)/python -m examples.install $(SERVER))
	@$(BIN)/python -m examples.demo $(if $(SERVER),--server $(SERVER))

demo-once: $(VENV)/.demo
	@$(if $(SERVER),$(BIN)/python -m examples.install $(SERVER))
	@$(BIN)/python -m examples.demo --once $(if $(SERVER),--server $(SERVER))

test: $(VENV)/.test $(VENV)/.servers $(VENV)/.node
ifeq ($(ARGS),)
	$(MEASURED) REALTIME_TICKET_RUN=measured $(CROWD) -k "not ($(CROWDS))"
	$(REPORT)
	REALTIME_TICKET_RUN=others $(CROWD) -k "not test_contract or $(CROWDS)"
else
	$(PYTEST) $(ARGS)
endif

quick: $(VENV)/.test
	REALTIME_TICKET_RUN=quick $(CROWD) $(ARGS)

faults: $(VENV)/.test $(VENV)/.servers
ifeq ($(ARGS),)
	@: > $(FIGURES)
	REALTIME_TICKET_FIGURES=$(FIGURES) $(CROWD) tests/faults --ignore $(TABLE)
	REALTIME_TICKET_FIGURES=$(FIGURES) $(PYTEST) $(TABLE)
else
	$(PYTEST) tests/faults $(ARGS)
endif

# No server may be missing: REALTIME_TICKET_REQUIRE_SERVERS=1 make mutants
mutants: $(VENV)/.test $(VENV)/.servers
	$(BIN)/python -m tests.mutants $(if $(SINCE),--since $(SINCE)) $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/python -m django makemigrations --check --settings tests.settings

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -n -W -q docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks --write
	$(BIN)/python -m benchmarks.capacity

bench-quick: $(VENV)/.bench
	$(BIN)/python -m benchmarks --effort quick

clean:
	rm -rf $(VENV) docs/_build node_modules examples/*/node_modules

$(VENV)/.pip:
	@echo "Installing what this needs into $(VENV), once. The demo takes about half a minute, the tests some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -U "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml
	$(BIN)/pip install -q -e ".[redis]" --group demo
	@touch $@

$(VENV)/.test: $(VENV)/.pip pyproject.toml
	$(BIN)/pip install -q -e . $(addprefix --group ,$(GROUPS))
	@touch $@

$(VENV)/.servers: $(VENV)/.test examples/servers.py $(wildcard examples/*/requirements*.txt examples/*/package.json)
	$(BIN)/python -m examples.install
	@touch $@

# Without npm the tests that need it are skipped, and the next make looks for it again.
$(VENV)/.node: package.json
	if command -v npm > /dev/null; then npm install --silent --ignore-scripts --no-save --no-package-lock && touch $@; fi

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/pip install -q --group lint
	@touch $@

$(VENV)/.docs: $(VENV)/.test
	$(BIN)/pip install -q --group docs
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(BIN)/pip install -q --group bench
	@$(BIN)/pip install -q --group mysql > $@.log 2>&1 || \
		echo "MariaDB's driver cannot be compiled here, so MariaDB is left out: see $@.log"
	@touch $@
