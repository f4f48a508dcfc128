"""Sphinx: Markdown pages, reference from docstrings, no network."""

import sys
from pathlib import Path

# The working copy is documented, whatever is installed.
sys.path.insert(0, str(Path(__file__).parents[1]))

import aiorest_ws

project = "aiorest-ws"
author = "The aiorest-ws developers"
copyright = author
version = release = aiorest_ws.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "snippets"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Docstrings put names in single backquotes, as Markdown does.
default_role = "literal"
autodoc_member_order = "bysource"
# Optional dependencies (the `auth` extra): their names are not needed to read the docstrings.
autodoc_mock_imports = ["argon2", "jwt"]
autodoc_default_options = {"members": True, "show-inheritance": True}

html_theme = "furo"
html_title = f"aiorest-ws {release}"
html_show_copyright = False
