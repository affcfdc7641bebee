# make demo: the whole story, small.  make test: the tests.  make test-all: the slow ones too.
# make lock, make sbom: versions with hashes, and a bill of materials.
# Each sets up .venv first; it needs python3 >= 3.11 and nothing else.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-all lint lock sbom clean

demo: $(VENV)/installed
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash launch/laptop.sh

test: $(VENV)/installed lint
	$(RUN) -m pytest

test-all: $(VENV)/installed lint
	$(RUN) -m pytest -m "slow or not slow"

lint: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m mypy slm

# Exact versions with hashes, for a reproducible install.
lock: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check uv
	$(RUN) -m uv pip compile setup.cfg --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --extra local --extra evaluation --extra export --extra corpus --custom-compile-command "make lock" \
	  --output-file launch/requirements.lock

# What is installed here, as CycloneDX (sbom.json).
sbom: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check cyclonedx-bom
	$(RUN) -m cyclonedx_py environment --output-file sbom.json $(RUN)

$(VENV)/installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 is %d.%d: slm needs 3.11 or newer; name one with make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
