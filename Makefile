# Two commands set everything up on a machine with Python 3.11 to 3.13:
#
#     make quickstart    environment, install, and the main job with its figures
#     make test          the whole test suite
#
# PYTHON picks the interpreter, VENV the folder of the environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# TensorFlow's start-up notices tell a user nothing.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help quickstart test test-fast lint format lock bench bench-quick gate clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,8p'

# The environment is made anew whenever what it is made from changes.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

quickstart: $(VENV)/installed
	$(BIN)/python examples/quickstart.py

test: $(VENV)/installed
	$(BIN)/python -m pytest

test-fast: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Peers run in environments of their own, which need Python 3.11.
PEERS := $(VENV)-peers
PEER_PYTHON ?= python3.11

$(PEERS)/%/installed: benchmarks/environments/%.txt
	$(PEER_PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --requirement $<
	@touch $@

PEERS_INSTALLED := $(patsubst benchmarks/environments/%.txt,$(PEERS)/%/installed,\
	$(wildcard benchmarks/environments/*.txt))
PREDECESSOR := --predecessor $(PEERS)/imnn-tf-0.2.0/bin/python
TORCH := --torch $(PEERS)/torch-rim-0.2.9/bin/python
PYABC := --pyabc $(PEERS)/pyabc-0.12.18/bin/python

# One after the other, each with its peers in turns. STREAM_FOLDER needs room for 16 GB.
bench bench-quick: $(VENV)/installed $(PEERS_INSTALLED)
	$(BIN)/python benchmarks/imnn_in_memory.py $(QUICK) $(PREDECESSOR)
	$(BIN)/python benchmarks/imnn_sources.py $(QUICK) $(PREDECESSOR)
	$(BIN)/python benchmarks/imnn_streaming.py $(QUICK) $(STREAM_FOLDER:%=--folder %)
	$(BIN)/python benchmarks/lfi.py $(QUICK) $(PREDECESSOR) $(PYABC)
	$(BIN)/python benchmarks/rim.py $(QUICK) $(TORCH)
	$(BIN)/python benchmarks/roofline.py $(QUICK)
	$(BIN)/python benchmarks/scaling.py $(QUICK)
	$(BIN)/python benchmarks/report.py --folder $(RESULTS) --output $(RESULTS).md

bench: RESULTS := benchmarks/results
bench-quick: RESULTS := benchmarks/results-quick
bench-quick: QUICK := --quick

gate: $(VENV)/installed
	$(BIN)/python benchmarks/gate.py

# Needs uv; resolves for every supported Python at once.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --extra dev \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		--output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) $(PEERS) build dist figures *.egg-info .mypy_cache .pytest_cache .ruff_cache
