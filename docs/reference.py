"""Write the pages of the reference from the docstrings, or check that they are up to date.

`docs/reference.toml` lists the pages and their modules. Griffe reads the source without importing
it, so the version of Python does not matter. Usage: `python docs/reference.py [--check]`.
"""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[1]
LINE_LENGTH = 96


def wrapped(signature: str) -> str:
    """Put each parameter of a long signature on a line of its own."""
    if len(signature) <= LINE_LENGTH:
        return signature
    head, _, rest = signature.partition("(")
    parameters, depth = [""], 1
    while depth:
        character, rest = rest[0], rest[1:]
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 1:
            parameters.append("")
        elif depth:
            parameters[-1] += character
    listed = "".join(f"    {parameter.strip()},\n" for parameter in parameters)
    return f"{head}(\n{listed}){rest}"


def signature_of(thing: Any) -> str:
    if thing.is_attribute:
        annotation = f": {thing.annotation}" if thing.annotation else ""
        is_shown = thing.value and "property" not in thing.labels and len(str(thing.value)) < 80
        return f"{thing.name}{annotation}" + (f" = {thing.value}" if is_shown else "")
    for parameter in thing.parameters:
        if isinstance(parameter.default, griffe.ExprCall):
            parameter.default = "..."
    if thing.is_class:
        lines = [f"class {wrapped(thing.signature() or thing.name)}"]
        for member in members(thing):
            is_constant = "class-attribute" in member.labels and not member.docstring
            if is_constant and member.name not in thing.parameters:
                lines.append(f"    {signature_of(member)}")
        return "\n".join(lines)
    decorator = "".join(f"@{label}\n" for label in thing.labels & {"classmethod", "staticmethod"})
    keyword = "async def" if "async" in thing.labels else "def"
    return f"{decorator}{wrapped(f'{keyword} {thing.signature()}')}"


def members(parent: Any) -> list[Any]:
    """Return the public members that a class defines, in the order of the source."""
    found = [
        member
        for name, member in parent.members.items()
        if not member.is_alias and not name.startswith("_")
    ]
    return sorted(found, key=lambda member: member.lineno)


def text_of(thing: Any) -> str:
    # `::` starts a literal block; in Markdown its indentation is enough.
    return str(thing.docstring.value).replace("\n::\n\n", "\n")


def describe(thing: Any, name: str, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{name}`"
    yield f"```python\n{signature_of(thing)}\n```"
    if thing.is_class and thing.bases:
        yield f"Bases: {', '.join(f'`{base}`' for base in thing.bases)}"
    if thing.docstring:
        yield text_of(thing)
    if thing.is_class:
        for member in members(thing):
            if member.docstring:
                yield from describe(member, f"{name}.{member.name}", level + 1)


def page_of(entry: dict[str, Any], modules: Any, documented: set[str]) -> str:
    parts = [f"# {entry['title']}", "<!-- Written by `make reference`; do not edit. -->"]
    parts += [entry["intro"]] if "intro" in entry else []
    for module in (modules[path] for path in entry["modules"]):
        parts += [f"## `{module.path}`", text_of(module)]
        found = [module[name] for name in module.exports or ()]
        targets = [thing.final_target if thing.is_alias else thing for thing in found]
        elsewhere = [one for one in targets if one.module.path in documented - {module.path}]
        if elsewhere:
            listed = "\n".join(f"- `{thing.path}`" for thing in elsewhere)
            parts.append(f"Names imported from other modules:\n\n{listed}")
        here = [thing for thing in targets if thing not in elsewhere]
        for thing in sorted(here, key=lambda thing: (thing.module.path, thing.lineno)):
            parts += describe(thing, thing.name, 3)
    return "\n\n".join(parts) + "\n"


def main() -> None:
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    for package in ("aiorest_ws", "networkpype"):
        loader.load(package)
    loader.resolve_aliases(implicit=True)
    pages = tomllib.loads((ROOT / "docs/reference.toml").read_text(encoding="utf-8"))["page"]
    documented = {module for entry in pages for module in entry["modules"]}
    stale = []
    for entry in pages:
        path, page = ROOT / entry["path"], page_of(entry, loader.modules_collection, documented)
        if not path.exists() or path.read_text(encoding="utf-8") != page:
            stale.append(entry["path"])
            if "--check" not in sys.argv:
                path.write_text(page, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"Run `make reference`; not up to date: {', '.join(stale)}")


if __name__ == "__main__":
    main()
