# Everything a newcomer runs. Written for GNU make 3.81, which is what macOS has.

VENV := .venv
BIN := $(VENV)/bin
# Named after the place, since a virtual environment does not survive a move.
STAMP := $(VENV)/installed-$(shell pwd -P | cksum | cut -d ' ' -f 1)
ARGS :=

# Tests and the demo start dozens of processes; what these import is compiled once, not each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow chaos check lock clean

help:
	@echo 'make install   a virtual environment in $(VENV), with everything from the hashed lock'
	@echo 'make demo      a whole market on this machine, until Ctrl-C'
	@echo 'make test      the tests; ARGS="-k offers" for some'
	@echo 'make test-slow the tests that kill brokers and drive whole markets again and again'
	@echo 'make chaos     a market while everything that serves it is killed; ARGS="--broker redis"'
	@echo '                or ARGS=money: every write to Stripe, killed at every point'
	@echo 'make check     linters, types, import contracts, migrations, locks'
	@echo 'make lock      the locks again from pyproject.toml, newest versions (needs uv)'
	@echo 'make clean     takes $(VENV) and caches away; data stays'

install: $(STAMP)

# Again only when the lock or the list of packages has changed. A virtual environment that was made
# elsewhere, or by a Python that is gone, is made anew.
$(STAMP): requirements-dev.txt pyproject.toml
	@set -e; \
	python=''; \
	for found in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  if "$$found" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	    >/dev/null 2>&1; then python="$$found"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'stumpwork needs Python 3.11 or newer with venv and pip (on Debian: python3-venv)' >&2; \
	  exit 1; \
	fi; \
	here="$$(cd $(VENV) 2>/dev/null && pwd -P)" || here=''; \
	if [ -z "$$here" ] || [ "$$($(BIN)/python -c 'import os, sys; print(os.path.realpath(sys.prefix))' \
	    2>/dev/null)" != "$$here" ]; then \
	  echo "making $(VENV) with $$("$$python" -V)"; \
	  "$$python" -m venv --clear $(VENV); \
	fi; \
	if command -v uv >/dev/null 2>&1; then \
	  echo 'installing from requirements-dev.txt, with uv'; \
	  uv pip install --quiet --compile-bytecode --python $(BIN)/python \
	    --require-hashes -r requirements-dev.txt; \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	  echo 'installing from requirements-dev.txt, with pip; the first time takes about a minute'; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes -r requirements-dev.txt; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --no-deps --no-build-isolation -e .; \
	fi; \
	touch $@

demo: install
	@$(BIN)/stumpwork demo $(ARGS)

test: install
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: install
	@$(BIN)/python -m pytest -m slow $(ARGS)

chaos: install
	@$(BIN)/python -m tests.chaos $(ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.check_migrations
	$(BIN)/python -m tests.check_locks

LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --upgrade

lock:
	@command -v uv >/dev/null 2>&1 || { echo 'make lock needs uv (pip install uv)' >&2; exit 1; }
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
