# Every target does its own set-up: a virtual environment in .venv with the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
export OMP_NUM_THREADS ?= 1

.PHONY: demo table benchmark browser families test coverage lint oracle exports clients cluster docs clean

demo: .venv/ready  ## search the default suite; the run is a new folder under runs/
	$(BIN)/python -m experiments.search

table: .venv/ready  ## score all 46,656 recipes of five candidates of the default suite (8 minutes of one core)
	$(BIN)/python -m experiments.tabulate suite=fashion-halves-0 \
	  'operators.bank=[average,{name:ties,density:0.3},{name:task_arithmetic,weight:[0.4,0.1]}]'

benchmark: .venv/ready  ## every agent on the shipped tables, 20 seeds; runs/benchmark/report.html (30 minutes of two cores)
	$(BIN)/python -m experiments.benchmark

browser: .venv/ready  ## the benchmark's page in a real browser (Chromium, where it is installed)
	$(BIN)/python -m pytest tests/experiments/benchmarking/test_page_in_browser.py

families: .venv/ready  ## try every architecture and rewrite the table in docs/families.md (2 minutes of one core)
	$(BIN)/python -m tests.models.table --write

test: .venv/ready  ## the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

coverage: .venv/ready  ## the tests, with branch coverage of at least 95 %
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-fail-under=95

lint: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip setuptools
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[train,suites,search,dev]"
	touch $@

oracle: .venv-oracle/ready  ## compare the operators with mergekit's and rewrite the table in docs/operators.md
	.venv-oracle/bin/python -m tests.operators.oracle.compare --write

exports: .venv/ready .venv-oracle/ready  ## run mergekit on exported recipes and compare the tensors
	MERGEKIT_BIN=.venv-oracle/bin $(BIN)/python -m pytest tests/test_mergekit_yaml.py

.venv-oracle/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/pip install --quiet -c constraints.txt torch
	.venv-oracle/bin/pip install --quiet -c constraints.txt -e . mergekit==0.1.5
	touch $@

clients: .venv-clients/ready  ## other RL libraries on a shipped table, each for a minute or two (docs/clients.md)
	for client in cleanrl sb3 rl_zoo3 tianshou torchrl rllib; do \
	  .venv-clients/bin/python -m experiments.clients.$$client || exit 1; done

.venv-clients/ready: pyproject.toml experiments/clients/requirements.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install --quiet -c constraints.txt torch
	.venv-clients/bin/pip install --quiet -r experiments/clients/requirements.txt -e ".[train]"
	touch $@

cluster: .venv-clients/ready  ## a Ray cluster of two workers on this machine, one killed in the middle
	.venv-clients/bin/pip install --quiet pytest hypothesis
	.venv-clients/bin/python -m pytest tests/evaluation/test_ray.py

docs: .venv-docs/ready  ## the documentation as a site, in site/; nothing on it is fetched from elsewhere
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

.venv-docs/ready: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet "mkdocs-material>=9.6" "mkdocstrings[python]>=0.30"
	touch $@

clean:
	rm -rf site .venv .venv-clients .venv-docs .venv-oracle build *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache
