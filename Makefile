# Every target works from a clean clone with Python 3.11+, make and the package index.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install search test soak check bench collapse chaos clean

search: .venv/installed ## the main job: which exit position, depth, temperature and weight are best
	$(BIN)/python launch.py --space search_spaces/exit_position.yaml

# One thread a process: the networks of the tests are too small for more.
test: export OMP_NUM_THREADS = 1
test: .venv/installed-dev ## all tests
	$(BIN)/python -m pytest -n auto -m "not soak"

soak: export OMP_NUM_THREADS = 1
soak: .venv/installed-dev ## the tests that take too long for every change: clusters, disks and servers that fail
	$(BIN)/python -m pytest -m soak

check: .venv/installed-dev ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed ## the figures of docs/results.md
	$(BIN)/python benchmarks/loss.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/trial_overhead.py
	$(BIN)/python benchmarks/first_minutes.py
	$(BIN)/python benchmarks/searcher.py
	$(BIN)/python benchmarks/recovery.py
	$(BIN)/python benchmarks/checkpoints.py
	$(BIN)/python benchmarks/tracking.py

collapse: .venv/installed ## the study of docs/method.md: when training collapses; half an hour on two CPUs
	$(BIN)/python benchmarks/collapse.py

chaos: .venv/installed-dev ## searches whose parts are killed at random, and what must hold afterwards; a quarter of an hour
	$(BIN)/python -m tests.chaos --kills $(or $(KILLS),24) $(if $(SEED),--seed $(SEED))

install: .venv/installed ## .venv with everything a search needs

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean: ## remove the virtual environment; searches and MLflow's records stay
	rm -rf .venv
