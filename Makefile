# Everything a newcomer needs. Both commands make .venv on first use and do nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DOC ?= examples/fhs-3.0.pdf
Q ?= Where do add-on application software packages go?
export LONGLEAF_LIBRARY ?= $(CURDIR)/.longleaf

.PHONY: ask test lint wheel clean

ask: $(VENV)/.installed
	@$(BIN)/longleaf ask "$(DOC)" "$(Q)"

test: $(VENV)/.tested
	$(BIN)/longleaf models get smollm2-135m-instruct
	$(BIN)/longleaf models get all-minilm-l6-v2
	$(BIN)/python -m pytest

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p longleaf
	$(BIN)/lint-imports

wheel: $(VENV)/.tested
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info

SOURCES := $(shell find app agents engine memory retrieval -name '*.py' -o -name '*.md' 2>/dev/null)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(SOURCES) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet '.[test]'
	@touch $@
