# Every target sets up what it needs; `make demo` and `make test` are all a fresh clone takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
FSX := .cargo-root/bin/fsx
PROGRAMS := arvfuse fstest.py bench tools

.PHONY: setup demo test tests check docs-check docs bench bench-tools breakdown stress posix clean

setup: $(STAMP)

$(STAMP): pyproject.toml setup.py tools/setup.sh
	PYTHON="$(PYTHON)" sh tools/setup.sh $(VENV)
	@touch $@

demo: setup
	$(BIN)/python -m bench.demo

test: setup
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory tests

# Bytecode first, as an installation makes it: hundreds of mounts are started, and an environment may forbid it to programs.
tests: setup
	$(BIN)/python -m compileall -q arvfuse
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not stress"
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --include='arvfuse/model/*,arvfuse/parallel.py' --show-missing --fail-under=100

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(PROGRAMS)
	$(BIN)/pytest tests/architecture
	@$(MAKE) --no-print-directory docs-check

docs-check: setup
	$(BIN)/python -m tools.docs check

docs: setup
	$(BIN)/python -m tools.docs write

bench: setup bench-tools
	$(BIN)/python -m bench --results bench-results.json

bench-tools:
	sh tools/bench_tools.sh

breakdown: setup
	$(BIN)/python -m bench.breakdown

stress: setup
	$(BIN)/python -m bench.stress
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -m "stress or not stress" tests/property tests/concurrency --timeout=3600
	$(BIN)/pytest -m stress tests/mounted --timeout=3600

posix: setup $(FSX)
	$(BIN)/python -m bench.posix $(FSX)

$(FSX):
	cargo install fsx --locked --root .cargo-root

clean:
	rm -rf $(VENV) .cargo-root bench-results.json .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
