# Every recipe runs in .venv, which `make setup` makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# -P keeps the working directory off sys.path: our folder `schema/` must not hide a library of that name.
export PYTHONSAFEPATH := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export HF_HUB_DISABLE_UPDATE_CHECK := 1
export OMP_WAIT_POLICY := PASSIVE

.PHONY: setup release test test-long lint types bench clean

setup: $(BIN)/.open360-ready

$(BIN)/.open360-ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	mkdir -p .types/open360
	for part in schema release trainer pipelines; do ln -sfn ../../$$part .types/open360/$$part; done
	touch $@

release: setup
	python -P -m open360.pipelines.rehearse

lint: setup
	ruff check .
	ruff format --check .
	lint-imports --no-cache

types: setup
	mypy -p open360.schema -p open360.release -p open360.trainer -p open360.pipelines

# Files that share what they build stay together, one worker for each core.
test: lint types
	pytest -m 'not long' --numprocesses auto --maxprocesses 4 --dist loadscope

test-long: setup
	pytest -m long --numprocesses auto --maxprocesses 4 --dist loadscope

bench: setup
	python -P bench/run.py

clean:
	rm -rf hub records .scratch
