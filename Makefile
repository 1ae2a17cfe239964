# Every target makes .venv first when it is missing or older than the lock. PORT=, PYTHON=, BASE= change the defaults.
PYTHON ?= python3.11
PORT ?= 8000
BASE ?= models/base/mongars-nano
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo serve test lint format bench clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

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

test: install  ## Run every test
	$(BIN)/python -m pytest $(ARGS)

lint: install  ## Check style, types and floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Rewrite the code in the house's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install  ## Measure a base as an encoder (DATA=FOLDER, BASE=, ARGS='--adapter DIGEST'; see benchmarks/README.md)
	@test -n "$(DATA)" || { echo "Give the folder of the data: make bench DATA=FOLDER (see benchmarks/README.md)." >&2; exit 2; }
	$(BIN)/python benchmarks/encoder_quality.py --base "$(BASE)" --data "$(DATA)" $(ARGS)

clean:  ## Remove what the demo and the tools made; .venv and models stay
	rm -rf var .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
