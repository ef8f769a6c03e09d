# make demo    compare agents on the sample benchmarks; no key, no container engine
# make test    set up and run the whole suite
# make check   format, lint, types, import rules
# make kill    kill episodes wherever they can be killed, and print the table of docs/durability.md
# make perf    benchmarks of speed, as ratios (never part of the tests)

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)
BIN := .venv/bin
PYTEST_ARGS ?=
KILL_ARGS ?=

# Containers and sandboxes of developers often set it. The tests start a thousand Pythons: with it, each compiles Trellis
# anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check format kill perf clean

demo: .venv/.demo
	$(BIN)/trellis run docs/examples/demo.toml --embedded

test: check
	$(BIN)/pytest -n 4 --dist worksteal $(PYTEST_ARGS)

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

kill: .venv/.dev
	$(BIN)/python -m tests.kill.table $(KILL_ARGS)

perf: .venv/.dev
	for script in tests/performance/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/.demo: pyproject.toml constraints.txt
	@$(call install,mle$(comma)swelancer)
	@touch $@

.venv/.dev: pyproject.toml constraints.txt
	@$(call install,mle$(comma)browser$(comma)mcp$(comma)otel$(comma)bedrock$(comma)vertex$(comma)dev)
	@touch $@ .venv/.demo

# Inspect's own reader, for the test that opens what we export to it: in an environment of its own, because its
# dependencies and ours do not fit together.
.venv/.inspect: tests/trajectories/converters/inspect.txt .venv/.dev
	@$(BIN)/python -m venv .venv/inspect
	@.venv/inspect/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

comma := ,

# Into a virtual environment of its own, with the pinned versions; with uv where it is, else with venv and pip.
define install
	if [ -z "$(PYTHON)" ]; then echo "Trellis needs Python 3.11 or later; none is in PATH" >&2; exit 2; fi; \
	if command -v uv >/dev/null 2>&1; then \
		{ [ -x $(BIN)/python ] || uv venv --quiet --python "$$(command -v $(PYTHON))" .venv; } && \
		uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[$(1)]'; \
	else \
		{ [ -x $(BIN)/pip ] || $(PYTHON) -m venv .venv; } && \
		$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(1)]'; \
	fi
endef
