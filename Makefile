# Each target first makes .venv, or mends it (tools/set_up.py; instant when it is up to date).
#
#   make quickstart        the whole chain on synthetic people; EXPERIMENT=... names another experiment
#   make test              the fast tests, on all cores (JOBS=1: in one process); some of them:
#                          make test ARGS="tests/data -k heatmap"
#   make check             all that a reviewer runs: lint, types, fast tests
#   make slow              the tests that take minutes
#   make fuzz              20,000 spoiled inputs, half an hour; fewer: make fuzz ARGS="--inputs 1000"
#   make docs              the documentation as a site, in build/site
#   make format            what `make lint` asks for
#   make clean             away with .venv and caches; runs/ stays
#
# PYTHON3 names the Python to use. pip's own settings hold: on Linux without a GPU, a
# PIP_EXTRA_INDEX_URL that names PyTorch's CPU index saves the download of CUDA.

PYTHON3 ?= python3 python3.13 python3.12 python3.11 python3.10 python
EXPERIMENT ?= experiments/quickstart.yaml
BIN := .venv/bin
# Worker processes of the tests. A file stays in one of them: its tests share what they prepare.
# tests/conftest.py orders the files. A worker that crashes ends the run: if pytest-xdist replaces
# it, the others may wait for ever.
JOBS ?= auto
XDIST := --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: quickstart test slow fuzz check lint types format docs environment clean

quickstart: environment
	$(BIN)/vipnas run $(EXPERIMENT)

test: environment
	$(BIN)/python -m pytest -n $(JOBS) $(XDIST) $(ARGS)

slow: environment
	$(BIN)/python -m pytest -m slow $(ARGS)

fuzz: environment
	$(BIN)/python -m tools.fuzz --subprocesses 200 $(ARGS)

check: lint types test

lint: environment
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .

types: environment
	$(BIN)/python -m mypy

docs: environment
	$(BIN)/python -m pip install --quiet --constraint constraints.txt -e '.[docs]'
	$(BIN)/python -m mkdocs build --strict

format: environment
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# The first of PYTHON3 that is new enough runs the set-up.
environment:
	@for python in $(PYTHON3); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	        exec $$python tools/set_up.py; \
	    fi; \
	done; \
	echo "vipnas needs Python 3.10 or newer, which none of these is: $(PYTHON3);" \
	    "name one: make PYTHON3=/path/to/python3" >&2; \
	exit 1

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist vipnas.egg-info
