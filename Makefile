# Every target is listed by `make help`; CI and pre-commit call these same targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help setup demo test check fmt slow bench bench-rows bench-serve calibration kills golden size clean
.DEFAULT_GOAL := help

help:            ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv and install everything, pinned

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)   ## the main job on bundled real data: ingest, backtest, report
	@$(BIN)/prometheus demo

# Half of the time of these tests is waiting for processes and sockets of their own.
TESTS  ?= not slow
test: $(STAMP)   ## every test, PostgreSQL included where its server is installed
	$(BIN)/python -m pytest -n 4 -q -m '$(TESTS)'

slow: $(STAMP)   ## the tests that take minutes: how often selection is wrong, many kills of a campaign
	$(BIN)/python -m pytest -n 2 -q -m slow

check: $(STAMP)  ## format, lint, types, layers and the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 -q -m 'not integration'

fmt: $(STAMP)    ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(STAMP)  ## speed and memory on 500 instruments x 2,520 sessions, as ratios
	$(BIN)/python benchmarks/replay.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/derive.py
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/record.py
	$(BIN)/python benchmarks/day.py
	$(BIN)/python benchmarks/campaign.py

bench-rows: $(STAMP)  ## every `show` over ten million rows, as ratios; some minutes and 3 GB of disk
	$(BIN)/python benchmarks/listings.py

bench-serve: $(STAMP)  ## every reading of a million rows by fifty readers while runs are appended; two minutes
	$(BIN)/python benchmarks/serve.py

calibration: $(STAMP)  ## how often selection is wrong on 500 campaigns whose truth is known; some minutes
	$(BIN)/python benchmarks/calibration.py 500

kills: $(STAMP)  ## a hundred kills of a backtest, of a day and of a paper run, each completed by the next
	PROMETHEUS_KILL_POINTS=100 $(BIN)/python -m pytest -n 2 -q tests/integration/test_crash.py tests/integration/test_paper.py

golden: $(STAMP) ## refresh the golden results; review the diff and say why they moved
	PROMETHEUS_REFRESH_GOLDEN=1 $(BIN)/python -m pytest -q tests/golden

size:            ## source lines and the largest files
	@git ls-files '*.py' | grep -v '^tests/' | xargs wc -l | sort -rn | head -25

clean:           ## remove the environment and everything that was generated
	rm -rf $(VENV) var build dist *.egg-info
