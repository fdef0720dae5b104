# make demo: the whole chain on params.yaml as it is. make preset NAME=gpu-64: writes a preset into it. make sweep: tries
# what sweeps/default.yaml says. make services: Prefect, MLflow, a worker and a Ray head until Ctrl-C. make test: every
# test. All make .venv first.
PYTHON ?= python3.11
BIN = .venv/bin
STAMP = .venv/.installed
# Two files of tests at a time, on however many cores: much of a test is waiting for servers to start. In alphabetical
# order: the long files of tests/integration first, so that neither of the two is left with one at the end.
PYTEST = $(BIN)/python -m pytest tests --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo preset sweep services test test-slow check clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	@$(BIN)/python -m flows

preset: $(STAMP)
	@$(BIN)/python -m components.config --preset "$(NAME)"

sweep: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m dvc repro preprocess
	$(BIN)/python -m pipelines.sweep $(SPACE)

services: $(STAMP)
	@$(BIN)/python -m flows.services

test: $(STAMP)
	$(PYTEST) -m "not slow"

test-slow: $(STAMP)
	$(PYTEST) -m slow

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

# Made again only when what it installs has changed.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or say make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# What can be made again without training anew: caches of tools. Data, runs, models and MLflow's records stay.
clean:
	rm -rf .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
