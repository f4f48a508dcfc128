# What tox runs, in the present environment: quicker, and without a fresh install.
.PHONY: check style types layers tests docs pins snippets reference

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
