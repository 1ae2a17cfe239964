# Every target makes .venv first when it is missing or older than the lock. PORT=, PYTHON=, BASE= change the defaults.
PYTHON ?= python3.11
PORT ?= 8000
BASE ?= models/base/mongars-nano
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
# One torch thread for each of the two workers: more only compete for the cores.
UNIT := OMP_NUM_THREADS=1 $(PYTEST) --numprocesses 2 --dist worksteal --ignore tests/ray --ignore tests/e2e

.PHONY: help install demo serve test e2e coverage lint format docs bench clean

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP)  ## Make .venv with the locked dependencies

$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint requirements.lock --editable '.[dev]'
	touch $@

demo: install  ## Run the whole loop on this machine (ARGS='--input FILE' takes your conversations)
	$(BIN)/mongars demo $(ARGS)

serve: install  ## Serve on 127.0.0.1:$(PORT) until Ctrl-C
	$(BIN)/mongars keys create --user owner --admin --if-none
	$(BIN)/mongars serve --port $(PORT)

ifdef ARGS
test: install  ## Run the unit tests in parallel, then those on a local Ray (ARGS=tests/memory runs a part)
	$(PYTEST) $(ARGS)
else
test: install
	$(UNIT)
	$(PYTEST) tests/ray
endif

e2e: install  ## Run the demo and the commands of the README, as a user would
	$(PYTEST) tests/e2e $(ARGS)

coverage: install  ## Report the branch coverage of the unit tests
	$(UNIT) --cov=mongars --cov-branch --cov-report=term:skip-covered

lint: install  ## Check style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Rewrite the code in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install  ## Regenerate the reference pages and build the documentation into site/
	$(BIN)/python docs/generate.py
	$(BIN)/properdocs build --strict

bench: install  ## Measure a base as an encoder (DATA=FOLDER, BASE=, ARGS='--adapter DIGEST'; see benchmarks/README.md)
	@test -n "$(DATA)" || { echo "Give the folder of the data: make bench DATA=FOLDER (see benchmarks/README.md)." >&2; exit 2; }
	$(BIN)/python benchmarks/encoder_quality.py --base "$(BASE)" --data "$(DATA)" $(ARGS)

clean:  ## Remove what the demo and the tools made; .venv and models stay
	rm -rf var .mypy_cache .coverage .ruff_cache .pytest_cache .hypothesis .import_linter_cache
