PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install sweep test test-long test-ray test-all check docs format benchmark clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/installed ## make .venv and install kdsweep into it

sweep: $(VENV)/installed ## run four temperatures over eight seeds on scikit-learn's digits
	$(BIN)/kdsweep -m hardware=cpu_parallel temperature=1,2,8,32 'seed=range(8)'

test: $(VENV)/installed-dev ## run the fast tests
	$(BIN)/pytest -n 2 -m "not long and not slow and not slurm and not ray and not browser"

test-long: $(VENV)/installed-dev ## run the longer tests, of searches and whole pages of the docs
	$(BIN)/pytest -n 2 -m "long and not slow"

test-ray: $(VENV)/installed-dev ## run the tests that start Ray
	$(BIN)/pytest -m ray

test-all: $(VENV)/installed-dev ## run every test, the slow ones too
	$(BIN)/pytest

check: $(VENV)/installed-dev ## lint, format check and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-dev ## write docs/reference.md, build the site into site/
	$(BIN)/python docs/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

format: $(VENV)/installed-dev ## format the code and mend what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/installed ## print the speed ratios
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/frozen.py
	$(BIN)/python benchmarks/chain.py
	$(BIN)/python benchmarks/jobs.py
	$(BIN)/python benchmarks/answers.py
	$(BIN)/python benchmarks/together.py
	$(BIN)/python benchmarks/together.py --commands 6,60
	$(BIN)/python benchmarks/methods.py

clean: ## remove .venv and caches; the store, the runs and mlflow.db stay
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kdsweep needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/installed
