# What tox runs, in the present environment: quicker, and without a fresh install.
.PHONY: check style types layers tests quick-server quick-parts quick-connection quick-conformance \
	quick-client quick-rest docs pins snippets reference

PYTHON ?= python3

# Compiled tests are kept: to compile them takes a third of the time.
unexport PYTHONDONTWRITEBYTECODE

CONNECTION = tests/aiorest_ws/connection/ tests/aiorest_ws/transports/
QUICK = -q -m "not (process or redis or property or soak or slow)"

# In under a minute on two cores. Four at a time: the tests of the client mostly wait.
check:
	+@$(MAKE) --no-print-directory -k -j4 --output-sync=target \
		quick-client quick-server quick-parts quick-connection quick-conformance types \
		quick-rest style layers

style:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy tests/typing

layers:
	$(PYTHON) -c 'from importlinter.cli import lint_imports_command as run; run()' --config setup.cfg

quick-server:
	$(PYTHON) -m pytest $(QUICK) --reactor=asyncio \
		$(filter-out %/test_conformance.py,$(wildcard tests/aiorest_ws/test_*.py))

quick-parts:
	$(PYTHON) -m pytest $(QUICK) --reactor=asyncio \
		$(filter-out $(CONNECTION),$(wildcard tests/aiorest_ws/*/)) tests/fuzz

quick-connection:
	$(PYTHON) -m pytest $(QUICK) --reactor=asyncio $(CONNECTION)

quick-conformance:
	$(PYTHON) -m pytest $(QUICK) --reactor=asyncio tests/aiorest_ws/test_conformance.py

quick-client:
	$(PYTHON) -m pytest $(QUICK) -p no:twisted tests/networkpype

quick-rest:
	$(PYTHON) -m pytest $(QUICK) -p no:twisted tests/soak tests/test_*.py

# All of them. Two runs: pytest-twisted keeps an event loop running.
tests:
	$(PYTHON) -m pytest -q -p no:twisted tests/networkpype tests/soak tests/test_*.py
	$(PYTHON) -m pytest -q --reactor=asyncio tests/aiorest_ws tests/fuzz

# What tests/constraints.txt pins, resolved anew for Python 3.11 and later; needs uv.
pins:
	printf '%s\n' setuptools ruff mypy mypy-zope import-linter | UV_CUSTOM_COMPILE_COMMAND="make pins" \
		uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate \
		--all-extras setup.cfg - --output-file tests/constraints.txt

docs:
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs docs/_build/html

# Copy the snippets into the pages that show them.
snippets:
	$(PYTHON) docs/embed.py

# Write the reference from the docstrings.
reference:
	$(PYTHON) docs/reference.py
