# What tox runs, in the present environment: quicker, and without a fresh install.
.PHONY: check style types layers tests docs snippets reference

PYTHON ?= python3
TESTS ?= tests/aiorest_ws tests/test_docs_pages.py tests/test_exports.py tests/test_examples.py

check: style types layers tests docs

style:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy tests/typing

layers:
	$(PYTHON) -c 'from importlinter.cli import lint_imports_command as run; run()' --config setup.cfg

tests:
	$(PYTHON) -m pytest -q -p no:twisted tests/networkpype
	$(PYTHON) -m pytest -q --reactor=asyncio $(TESTS)

docs:
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs docs/_build/html

# Copy the snippets into the pages that show them.
snippets:
	$(PYTHON) docs/embed.py

# Write the reference from the docstrings.
reference:
	$(PYTHON) docs/reference.py
