"""Sphinx: pages in plain Markdown, no network."""

import re
import sys
from pathlib import Path
from typing import Any

# The working copy is documented, whatever is installed.
sys.path.insert(0, str(Path(__file__).parents[1]))

import aiorest_ws

project = "aiorest-ws"
author = "The aiorest-ws developers"
copyright = author
version = release = aiorest_ws.__version__

extensions = ["myst_parser"]
exclude_patterns = ["_build", "snippets"]

myst_heading_anchors = 4

html_theme = "furo"
html_title = f"aiorest-ws {release}"
html_show_copyright = False


def add_toctree(app: Any, docname: str, source: list[str]) -> None:
    """Make Sphinx's navigation from the links that an index page lists."""
    if docname.endswith("index"):
        pages = re.findall(r"^- \[[^]]+\]\((?!\.\.)(\S+)\.md\)", source[0], re.MULTILINE)
        listed = "\n".join(pages)
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"


def setup(app: Any) -> None:
    app.connect("source-read", add_toctree)
