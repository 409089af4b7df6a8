# make report and make test work from a bare copy with Python 3.11.5 or newer; each sets up .venv first, once.
PYTHON ?= python3
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONHASHSEED := 0
READY := .venv/.ready
GRAPH := -s workflow/Snakefile --cores all --rerun-triggers mtime input
PICTURES := corrected bound preregistered headline other_networks
# If another make report is at work in this folder, say so and stop.
ONE_AT_A_TIME = $(if $(shell command -v flock),exec 9>_build/.lock; flock -n 9 || { echo "make report is at work in this folder already; wait for it"; exit 2; };)

.PHONY: help report test book pdf notebooks status clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

report: $(READY)  ## train every method on the small digits, make the exhibits, build the book
	@mkdir -p _build/logs && touch _build/.begun
	@$(ONE_AT_A_TIME) echo "training on small digits, the exhibits, then the book: some three minutes on two cores"; \
	snakemake $(GRAPH) --rerun-incomplete --nolock --quiet all || \
	{ snakemake $(GRAPH) --dry-run > _build/logs/graph.log 2>&1 || tail -n 8 _build/logs/graph.log; exit 1; }
	@for part in $$(find _build/times -name '*.tsv' -newer _build/.begun | sort); do \
	  awk -v part=$$(basename $$part .tsv) 'NR == 2 { printf "%-14s %5.0f s\n", part, $$1 }' $$part; done
	@echo "the report is at $(CURDIR)/_build/html/index.html"

test: $(READY)  ## ruff, the unit tests, and the notebooks
	ruff check
	ruff format --check
	OMP_NUM_THREADS=1 pytest -q --nbval -n auto --dist loadfile

book: $(READY)  ## the book alone, from the committed notebooks
	jupyter-book build book/ -W --keep-going

pdf: $(READY)  ## the book as an article, _build/report.pdf; needs Chromium or Chrome
	python -m repro.jupyter.article

notebooks: $(READY)  ## execute the committed exhibit notebooks in place, draw the pictures of pages
	python -m repro figures $(PICTURES) --folder book && rm $(PICTURES:%=book/%.png)
	jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False $(filter-out notebooks/train.ipynb,$(wildcard notebooks/*.ipynb))

status: $(READY)  ## which records are there, which are missing, and the command for each
	python -m repro status

clean:  ## remove what was made here; committed records stay
	rm -rf _build book/api book/notebooks results/smoke .snakemake .pytest_cache .ruff_cache

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' || { echo "Python 3.11.5 or newer is needed; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "setting up .venv, once: some minutes"
	@set -o pipefail; begun=$$SECONDS; $(PYTHON) -m venv .venv && \
	pip install --disable-pip-version-check --progress-bar off -r requirements.txt | awk \
	  '/^Collecting/ && ++n % 20 == 0 { print n " packages found" } /^Installing/ { print "installing them" } { fflush() }' && \
	pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . && \
	touch $@ && echo "set-up took $$((SECONDS - begun)) s"
