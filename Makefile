# `make demo` shows the product; `make test` runs every check; `make chaos` breaks things for longer. Each sets up all
# that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Set, it would have every server of a test or a benchmark compile anew, for half a second, all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-page test test-slow test-postgres chaos bench docs lint format types pytest coverage release-check constraints clean

demo: $(VENV)/.installed
	$(BIN)/python -W error::ResourceWarning examples/demo.py

# The page in a browser, with traffic to look at, until Ctrl-C.
demo-page: $(VENV)/.installed
	$(BIN)/python examples/demo_page.py

# The types are checked beside the first tests, because most tests wait for processes to start.
test: lint
	$(MAKE) -j 2 types pytest

# The fault tests in their long form: docs/concepts/reliability.md. OPENLAUNCH_FUZZ_RUNS=1000000 has a million connections
# made up, in place of 20,000. OPENLAUNCH_SIMULATION_SEEDS is the number of clusters that are simulated.
chaos: $(VENV)/.installed
	tools/install.sh nginx haproxy
	OPENLAUNCH_SIMULATION_SEEDS=$${OPENLAUNCH_SIMULATION_SEEDS:-1000000} OPENLAUNCH_CHAOS=long \
		$(BIN)/pytest tests/chaos tests/simulation $(ARGS)

# Beside its peers, which it installs: benchmarks/README.md.
bench: $(VENV)/.installed
	tools/install.sh wrk redis-server haproxy
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --group bench
	$(BIN)/python -m benchmarks.run $(ARGS)

# The site of docs/ in .site/, strictly: a warning, a link that leads nowhere and a file of another host are errors.
docs: $(VENV)/.installed
	$(BIN)/python -m zensical build --strict --clean
	$(BIN)/python -m tools.site.check .site

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tools.plain_words

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed
	$(BIN)/mypy

pytest: $(VENV)/.installed
	$(BIN)/python -m tools.run_tests

# The tests that take long: faults and load, whole programs, and the page in a browser, which are skipped where Chromium is
# not installed and can't be. CI runs them after `make test`.
# Azure's emulator of its storage, for the tests of artifacts there; it comes from npm, where that is installed.
AZURITE := $(VENV)/azurite
test-slow: $(VENV)/.installed
	-tools/install.sh chromium
	-RUNLEVEL=1 tools/install.sh prometheus
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --group chart --group ray --group tables --group openapi
	-test -e $(AZURITE)/node_modules/azurite || ! command -v npm >/dev/null || \
		npm install --silent --no-fund --no-audit --ignore-scripts --prefix $(AZURITE) azurite@3.37.0
	$(BIN)/python -m tools.run_tests slow

# What concerns records once more, with servers that keep them in PostgreSQL: also the fuzzer of the HTTP interface, and
# the fault tests of what is in records. tests/chaos/test_postgres.py and test_cluster.py, which have a PostgreSQL of their
# own, are among the slow ones.
ON_RECORDS := $(addprefix tests/integration/,access control controller jobs queue) \
	$(addprefix tests/chaos/test_,hostile_soak.py kill.py overload.py poison.py rollout.py soak.py stopping.py turns.py) \
	tests/chaos/test_storage.py::test_a_clock_that_is_set_expires_nothing_and_runs_nothing_twice
# The store's own suites also run with the oldest PostgreSQL of Debian's packages, where one is installed.
OLDEST_POSTGRES := $(firstword $(sort $(wildcard /usr/lib/postgresql/*/bin)))
test-postgres: $(VENV)/.installed
	OPENLAUNCH_TEST_STORE=postgres $(BIN)/python -m tools.run_tests "(slow or not slow)" $(ON_RECORDS)
	$(if $(OLDEST_POSTGRES),OPENLAUNCH_TEST_POSTGRES=$(OLDEST_POSTGRES) $(BIN)/python -m tools.run_tests "not slow" -k postgres tests/contract)

# Every check on each supported Python, or on one of them: `make test-3.12`. uv downloads a Python that is not installed.
PYTHONS := 3.11 3.12 3.13
.PHONY: test-all $(PYTHONS:%=test-%)
.NOTPARALLEL: test-all
test-all: $(PYTHONS:%=test-%)

$(PYTHONS:%=test-%): test-%: $(VENV)/.installed
	@$(BIN)/uv --quiet python find --system $* >/dev/null || $(BIN)/uv python install $* || \
		{ echo "Python $* is not installed and could not be downloaded. Install it so that python$* is on the PATH." >&2; exit 1; }
	$(MAKE) test test-slow test-postgres VENV=.venv-$* PYTHON="$$($(BIN)/uv python find --system $*)"

# Shows which lines the tests run. It measures and does not judge: a failed test does not stop it.
coverage: $(VENV)/.installed
	rm -rf .coverage
	-$(BIN)/coverage run -m pytest -n 3 -m "not alone" $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Builds what is uploaded, and uses it from empty environments.
release-check: $(VENV)/.installed
	$(BIN)/pytest tests/release/check_package.py

# The environment is made with pip from the standard library's venv, so that nothing has to be there before.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --editable '.[server,cluster,grpc,otel]' --group dev
	@touch $@

# The newest versions of everything that development uses, for all supported Pythons and systems. Names and versions
# alone: where packages come from is a matter of each machine.
constraints: $(VENV)/.installed
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate --no-emit-index-url \
		--no-emit-find-links --custom-compile-command 'make constraints' --extra server --extra cluster --extra grpc --extra otel --extra ray --group dev --group bench --group chart --group tables --group openapi \
		--output-file constraints.txt pyproject.toml

# The messages of gRPC, of src/openlaunch/server/gateway/inference.proto.
PROTO := src/openlaunch/server/gateway/inference
.PHONY: proto
proto: $(VENV)/.installed
	$(BIN)/uv run --quiet --no-project --isolated --with grpcio-tools python -m grpc_tools.protoc \
		--proto_path=$(dir $(PROTO)) --descriptor_set_out=$(PROTO).binpb $(PROTO).proto

clean:
	rm -rf $(VENV) .venv-* .bench .mypy_cache .ruff_cache .pytest_cache .coverage .site .cache build dist
