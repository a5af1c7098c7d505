# Two commands on a fresh clone: `make distill` and `make test`. Both build .venv if they must.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: distill test test-slow lint format clean

distill: $(READY)
	$(BIN)/prism-ray distill jobs/digits.yaml

test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# constraints.txt is the set that was tested; `make CONSTRAINTS= ...` takes the newest that fit instead.
CONSTRAINTS ?= -c constraints.txt
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prism-ray needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]' $(CONSTRAINTS)
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
