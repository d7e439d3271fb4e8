# Everything lands in three places: this folder, the virtual environment and the cache (the one `moca` itself uses).
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export MOCA_AVS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/moca-avs
export PIP_CACHE_DIR ?= $(MOCA_AVS_CACHE)/pip
export HF_HOME ?= $(MOCA_AVS_CACHE)/huggingface
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export ORT_DISABLE_TELEMETRY := 1
# The pins are for Python >= 3.11. Python 3.10 gets the newest versions that support it.
# The second variable is what pip >= 25.3 reads for the packages that build others.
ifneq ($(shell $(or $(wildcard $(BIN)/python),$(PYTHON)) -c 'import sys; print(sys.version_info[:2])'),(3, 10))
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
endif

.PHONY: demo test test-long docs docs-serve bench fuzz fuzz-guided fuzz-kill lint format stats readme-tables release-check \
	install clean help

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/'

demo: $(INSTALLED)  ## segment three composed clips and ten seconds of a real video, into out/demo
	$(BIN)/python -m moca_avs_bench.demo

# TEST_JOBS: processes that share the tests, a file at a time.
TEST_JOBS ?= 2

test: lint  ## lint, then every test but the long ones
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile -m "not long"

test-long: $(INSTALLED)  ## the tests that take a minute each: a compiler, a thousand videos
	$(BIN)/python -m pytest -n $(TEST_JOBS) -m long

# BENCH: options, as in make bench BENCH="--only matching neighbours" or BENCH=--quick
bench: $(INSTALLED)  ## measure speed and memory, into out/bench (hours; BENCH=--quick: minutes)
	$(BIN)/python benchmarks/bench.py $(BENCH)

# FUZZ: options, as in make fuzz FUZZ="--cases 500 --only video"
fuzz: $(INSTALLED)  ## read 10,000 damaged files of every kind (fuzz/README.md)
	$(BIN)/python fuzz/run.py $(FUZZ)

fuzz-guided: $(INSTALLED)  ## coverage-guided damage to what our own parsers read (needs atheris)
	$(BIN)/python fuzz/guided.py $(FUZZ)

fuzz-kill: $(INSTALLED)  ## kill segment, train, eval and fetch at random moments; they must resume
	$(BIN)/python fuzz/kill.py $(FUZZ)

docs: $(INSTALLED)  ## build the documentation site, strictly, into out/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: $(INSTALLED)  ## show the site at http://127.0.0.1:8000, built again at every change
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

lint: $(INSTALLED)  ## style, format, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(INSTALLED)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

stats: $(INSTALLED)  ## size of the code, lengths of functions, import cycles
	$(BIN)/python tools/stats.py

readme-tables: $(INSTALLED)  ## write the tables of scores in the pages from benchmarks/results
	$(BIN)/python tools/readme_tables.py

# RELEASE: options, as in make release-check RELEASE=--allow-dirty
release-check: $(INSTALLED)  ## rehearse a release: version, build, install from the wheel, one video; prints the tag
	$(BIN)/python -m pip install --quiet --progress-bar off -e '.[release]'
	$(BIN)/python tools/release_check.py $(RELEASE)

install: $(INSTALLED)  ## the virtual environment alone

# --no-compile: byte code is written when a module is first imported, which most of torch never is.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --progress-bar off -e '.[dev]'
	@touch $@

clean:  ## remove the virtual environment and what was made here (the cache stays)
	rm -rf $(VENV) out dist build .pytest_cache .mypy_cache .ruff_cache .coverage
	find src tests recipes benchmarks fuzz tools examples -name __pycache__ -type d -prune -exec rm -rf {} +
