# fedconv: each target sets up .venv by itself (Python 3.11+, pinned by constraints.txt).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
SEED   ?= 0

.DEFAULT_GOAL := help
.PHONY: help report test robustness check bench soundness soundness-long docs gallery clean

help:            ## list the targets
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedconv needs Python 3.11 or newer; got " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev,cluster,explorer,data,pep,docs]'
	touch $(STAMP)

report: $(STAMP) ## every claim of the papers at its quick size, with an HTML report in report/
	$(BIN)/fedconv papers --suite quick --out report --workers 2

test: $(STAMP)   ## all tests
	$(BIN)/python -m pytest -n 2

robustness: $(STAMP) ## kills, damaged stores, mutated files, full disks: a table of tried and failed (half an hour)
	$(BIN)/python tests/robustness/harness.py

check: $(STAMP)  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

bench: $(STAMP)  ## benchmarks: ratios against vectorised NumPy in one run
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-columns=min,median,max -s

soundness: $(STAMP) ## stated against seen error of every kind of confidence limit: minutes
	PYTHONPATH=tests $(BIN)/python -m soundness limits

soundness-long: $(STAMP) ## false verdicts, searched for against exact expectations; SEED=1 draws others
	PYTHONPATH=tests $(BIN)/python -m soundness search --workers 2 --seed $(SEED)

docs: $(STAMP)   ## the documentation, in docs/_build/html
	$(BIN)/python docs/_ext/gallery_page.py docs/_gallery
	$(BIN)/python -m sphinx -E -W --keep-going --quiet -d docs/_build/doctrees docs docs/_build/html

gallery: $(STAMP) ## the figures of the documentation, also those that take minutes; `make docs` shows them
	$(BIN)/python docs/_ext/gallery_page.py docs/_gallery --long

clean:           ## remove everything that the other targets made
	rm -rf $(VENV) report build docs/_build docs/_gallery *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
