# Two commands set everything up on a machine with Python 3.11 to 3.13:
#
#     make quickstart    creates the environment, installs, runs the quickstart
#     make test          runs the whole test suite
#
# PYTHON sets the interpreter and VENV the folder of the environment.
# CONTRIBUTING.md lists the other targets.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Hide TensorFlow's start-up messages, which are of no use here.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help quickstart test test-fast test-oldest torture lint format docs tutorials notebooks dist release-check lock bench bench-quick gate clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,7p'

# Recreate the environment whenever the requirements change.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

quickstart: $(VENV)/installed
	$(BIN)/python examples/quickstart.py

# Tests run in WORKERS processes at once, each with one thread for linear algebra.
WORKERS ?= 2
PYTEST = OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --durations 30

test: $(VENV)/installed
	$(PYTEST)

test-fast: $(VENV)/installed
	$(PYTEST) -m "not slow and not torture"

# The oldest versions that the requirements allow, without BayesFlow, which needs newer ones. This
# needs uv. Matplotlib 3.9 calls what pyparsing 3.3 deprecates, and a warning fails a test.
OLDEST := $(VENV)-oldest
OF_BAYESFLOW := tests/imnn_tf/lfi/density/test_bayesflow.py \
	"tests/documentation/test_docstrings.py::test_the_examples_of_a_module_run[imnn_tf.lfi.density.bayesflow]" \
	"tests/documentation/test_pages.py::test_the_code_of_a_page_runs[lfi]"

$(OLDEST)/installed: pyproject.toml
	$(PYTHON) -m venv --clear $(OLDEST)
	echo "pyparsing<3.3" > $(OLDEST)/constraints.txt
	uv pip compile --quiet --python $(OLDEST)/bin/python --constraint $(OLDEST)/constraints.txt \
		--resolution lowest-direct --extra test --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --output-file $(OLDEST)/requirements.txt pyproject.toml
	$(OLDEST)/bin/python -m pip install --quiet --requirement $(OLDEST)/requirements.txt
	$(OLDEST)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

test-oldest: BIN := $(OLDEST)/bin
test-oldest: $(OLDEST)/installed
	$(PYTEST) $(OF_BAYESFLOW:%=--deselect %)

# 300 kills, 1,000 damages, faults of the disk, savers against a loader, and workers of a fit.
torture: $(VENV)/installed
	$(BIN)/python tests/torture/run.py
	$(BIN)/python tests/torture/workers.py
	$(BIN)/python -m pytest -m torture

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What builds the documentation and runs the tutorials.
$(VENV)/documented: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,docs]"
	@touch $@

# The site, in docs/_build/html, from docs/ and the notebooks as they are. A warning is an error.
docs: $(VENV)/documented
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

# Runs all tutorials, and checks that the notebooks hold their code.
tutorials: $(VENV)/documented
	$(BIN)/python examples/tutorials/run.py

# Makes the notebooks from the tutorials.
notebooks: $(VENV)/documented
	$(BIN)/python examples/tutorials/run.py --write

# A wheel and a source distribution, checked, in dist/.
dist: $(VENV)/installed
	rm -rf build dist
	$(BIN)/python -m pip install --quiet --editable ".[dist]"
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*

# The wheel and what the source distribution brings, in a bare environment of each interpreter. The
# tutorials run in that of the last one.
PYTHONS ?= python3.13 python3.12 python3.11

release-check: dist
	for python in $(PYTHONS); do .ci/release $$python || exit 1; done
	.ci/release $(lastword $(PYTHONS)) tutorials

# The packages to compare with run in their own environments, which need Python 3.11.
PEERS := $(VENV)-peers
PEER_PYTHON ?= python3.11

$(PEERS)/%/installed: benchmarks/environments/%.txt
	$(PEER_PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --requirement $<
	@touch $@

# Packages of which only the files are needed come without what they depend on.
$(PEERS)/%/installed: benchmarks/environments/alone/%.txt
	$(PEER_PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --no-deps --requirement $<
	@touch $@

PEERS_INSTALLED := $(patsubst %.txt,$(PEERS)/%/installed,$(notdir \
	$(wildcard benchmarks/environments/*.txt benchmarks/environments/alone/*.txt)))
PREDECESSOR := --predecessor $(PEERS)/imnn-tf-0.2.0/bin/python
TORCH := --torch $(PEERS)/torch-rim-0.2.9/bin/python
PYABC := --pyabc $(PEERS)/pyabc-0.12.18/bin/python
SBI := --sbibm $(PEERS)/sbibm-1.1.0/bin/python --sbi $(PEERS)/sbi-0.27.0/bin/python

# The benchmarks run one after the other. STREAM_FOLDER is a folder with 16 GB of free space.
bench bench-quick: $(VENV)/installed $(PEERS_INSTALLED)
	$(BIN)/python benchmarks/cluster.py $(QUICK)
	$(BIN)/python benchmarks/imnn_defaults.py $(QUICK)
	$(BIN)/python benchmarks/imnn_in_memory.py $(QUICK) $(PREDECESSOR)
	$(BIN)/python benchmarks/imnn_sources.py $(QUICK) $(PREDECESSOR)
	$(BIN)/python benchmarks/imnn_streaming.py $(QUICK) $(STREAM_FOLDER:%=--folder %)
	$(BIN)/python benchmarks/lfi.py $(QUICK) $(PREDECESSOR) $(PYABC)
	$(BIN)/python benchmarks/posteriors.py $(QUICK) $(SBI)
	$(BIN)/python benchmarks/rim.py $(QUICK) $(TORCH)
	$(BIN)/python benchmarks/roofline.py $(QUICK)
	$(BIN)/python benchmarks/scaling.py $(QUICK)
	$(BIN)/python benchmarks/workers.py $(QUICK)
	$(BIN)/python benchmarks/report.py --folder $(RESULTS) --output $(RESULTS).md
	$(if $(QUICK),,$(BIN)/python benchmarks/posteriors_figure.py)

bench: RESULTS := benchmarks/results
bench-quick: RESULTS := benchmarks/results-quick
bench-quick: QUICK := --quick

gate: $(VENV)/installed
	$(BIN)/python benchmarks/gate.py

# Resolve the requirements for all supported versions of Python. This needs uv.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra docs --extra examples \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		--output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) $(OLDEST) $(PEERS) build dist docs/_build docs/tutorials figures *.egg-info .mypy_cache .pytest_cache .ruff_cache
