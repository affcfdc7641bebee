# make demo: the whole story, small.  make test: the tests.  make test-all: the slow ones too.
# Each sets up .venv first; it needs python3 >= 3.11 and nothing else.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-all lint clean

demo: $(VENV)/installed
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash launch/laptop.sh

test: $(VENV)/installed lint
	$(RUN) -m pytest

test-all: $(VENV)/installed lint
	$(RUN) -m pytest -m "slow or not slow"

lint: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m mypy slm

$(VENV)/installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 is %d.%d: slm needs 3.11 or newer; name one with make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
