"""Copy the files that the pages show into their fenced blocks, or check that they are equal.

A comment above the block names the file, and may name a part of it:

    <!-- snippet: docs/snippets/notes.py start-at=@app.on_startup end-before=@app.error_handler -->

`pyobject` names a function or class. The other options name the first line that contains a text:
`start-at` and `end-at` include that line, `end-before` does not.
Usage: `python docs/embed.py [--check]`.
"""

import ast
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"^(?P<indent> *)(?P<marker><!-- snippet: (?P<options>.*) -->)\n"
    r" *(?P<fence>```\w*)\n(?P<code>(?:.*\n)*?) *```$",
    re.MULTILINE,
)


def definition(source: str, name: str) -> list[str]:
    """Return the lines of a function or class, its decorators included."""
    node: Any = next(n for n in ast.parse(source).body if getattr(n, "name", None) == name)
    first = min(part.lineno for part in (node, *node.decorator_list))
    return source.splitlines()[first - 1 : node.end_lineno]


def find(lines: list[str], text: str) -> int:
    """Return the index of the first line that contains `text`."""
    return next(index for index, line in enumerate(lines) if text in line)


def snippet(options: str) -> str:
    """Return the code that the options of a marker name."""
    path, *parts = shlex.split(options)
    chosen = dict(part.split("=", 1) for part in parts)
    source = (ROOT / path).read_text(encoding="utf-8")
    lines = source.splitlines()
    if name := chosen.pop("pyobject", None):
        lines = definition(source, name)
    if text := chosen.pop("start-at", None):
        lines = lines[find(lines, text) :]
    if text := chosen.pop("end-at", None):
        lines = lines[: find(lines, text) + 1]
    if text := chosen.pop("end-before", None):
        lines = lines[: find(lines, text)]
    if chosen:
        raise ValueError(f"unknown option in {options!r}")
    return textwrap.dedent("\n".join(lines)).strip("\n") + "\n"


def embed(page: str) -> str:
    """Return a page with its blocks filled."""

    def fill(block: re.Match[str]) -> str:
        text = f"{block['marker']}\n{block['fence']}\n{snippet(block['options'])}```"
        return textwrap.indent(text, block["indent"])

    return BLOCK.sub(fill, page)


def main() -> None:
    stale = []
    for path in sorted((ROOT / "docs").rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (filled := embed(page)) != page:
            stale.append(str(path.relative_to(ROOT)))
            if "--check" not in sys.argv:
                path.write_text(filled, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"Run `make snippets`; not equal to their snippets: {', '.join(stale)}")


if __name__ == "__main__":
    main()
