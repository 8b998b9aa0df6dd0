# `make demo` and `make test` work on a fresh machine with Python 3.11 or 3.12.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip
# Each stamp file says that an installation is complete and newer than its settings.
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
SETTINGS := setup.py pyproject.toml

.PHONY: demo test test-fast lint format clean

# `make demo BACKBONE=ResNet50` starts from ImageNet weights, which need a network.
demo: $(INSTALLED)
	$(VENV)/bin/python -m export.demo $(if $(BACKBONE),--backbone=$(BACKBONE))

# COVERAGE='--cov=pipeline --cov=trainer --cov=export' prints the coverage of the fast
# tests; the slow ones run in processes of their own, which it does not see.
test: $(INSTALLED_DEV)
	$(VENV)/bin/python -m pytest -m 'not slow' $(COVERAGE)
	$(VENV)/bin/python -m pytest -m slow

test-fast: $(INSTALLED_DEV)
	$(VENV)/bin/python -m pytest -m 'not slow'

lint: $(INSTALLED_DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/codespell

format: $(INSTALLED_DEV)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip

$(INSTALLED): $(SETTINGS) | $(VENV)/bin/python
	$(PIP) install --quiet --editable '.[serve]'
	touch $@

$(INSTALLED_DEV): $(SETTINGS) | $(VENV)/bin/python
	$(PIP) install --quiet --editable '.[dev]'
	touch $(INSTALLED) $@

clean:
	rm -rf $(VENV) runs build dist *.egg-info
