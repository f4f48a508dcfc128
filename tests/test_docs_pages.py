"""The Markdown of `docs/` shows its code and its reference on a repository page, too."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WRITTEN_BY_HAND = [
    *PAGES,
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(ROOT.glob("examples/**/*.md")),
    ROOT / "bench" / "README.md",
]
INDEX_INSTALL = re.compile(
    r"""pip3?\s+install(?:\s+|[^\n`&;|]*?[ \t"'])["']?aiorest[-_]ws(?![\w/.])"""
)
ROLE = re.compile(r"(?:^|[\s(])\{[\w:-]+\}`\S", re.MULTILINE)


def script(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page_id(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_a_page_shows_its_snippets_as_they_are(page):
    embed = script("embed")
    text = page.read_text(encoding="utf-8")
    assert len(embed.BLOCK.findall(text)) == text.count("<!-- snippet:")
    assert embed.embed(text) == text, "run `make snippets`"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("start-at=def end-before=return", "def b():\n    pass\n"),
        ("start-at=return end-at=return", "return 1\n"),
        ("pyobject=b", "@a\ndef b():\n    pass\n    return 1\n"),
        ("", "a = print\n\n\n@a\ndef b():\n    pass\n    return 1\n"),
    ],
)
def test_a_part_of_a_snippet_is_shown(options, expected, tmp_path, monkeypatch):
    embed = script("embed")
    monkeypatch.setattr(embed, "ROOT", tmp_path)
    source = "a = print\n\n\n@a\ndef b():\n    pass\n    return 1\n\n"
    (tmp_path / "x.py").write_text(source, encoding="utf-8")
    assert embed.snippet(f"x.py {options}") == expected


@pytest.mark.parametrize("options", ["pyobject=c", "start-at=c", "end_at=a"])
def test_a_part_that_is_missing_is_an_error(options, tmp_path, monkeypatch):
    embed = script("embed")
    monkeypatch.setattr(embed, "ROOT", tmp_path)
    (tmp_path / "x.py").write_text("a = print\n", encoding="utf-8")
    with pytest.raises((StopIteration, ValueError)):
        embed.snippet(f"x.py {options}")


def test_the_reference_is_up_to_date(monkeypatch):
    pytest.importorskip("griffe", reason="griffelib, of the extra `test`, is not installed")
    monkeypatch.setattr(sys, "argv", ["reference.py", "--check"])
    script("reference").main()


def test_every_page_of_the_reference_is_listed():
    entries = tomllib.loads((DOCS / "reference.toml").read_text(encoding="utf-8"))["page"]
    folders = [DOCS / "reference" / "api", DOCS / "networkpype" / "reference"]
    written = {page for folder in folders for page in folder.glob("*.md")}
    listed = {ROOT / entry["path"] for entry in entries}
    assert listed == {page for page in written if page.name != "index.md"}


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=page_id)
def test_a_page_is_plain_markdown(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^ *(?:`{3,}\{.*|:{3,}.*)$", text, re.MULTILINE) == []
    assert ROLE.findall(text) == []
    assert re.findall(r"^: .*$", text, re.MULTILINE) == []  # a definition list


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_an_index_lists_every_page_beside_it(page):
    if page.name == "index.md":
        beside = {path.name for path in page.parent.glob("*.md")} - {"index.md"}
        below = {f"{path.parent.name}/index.md" for path in page.parent.glob("*/index.md")}
        text = page.read_text(encoding="utf-8")
        assert beside | below <= set(re.findall(r"^- \[[^]]+\]\((\S+)\)", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_between_pages_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?![a-z]+:)([^)#\s]+)(?:#[^)]*)?\)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(
    ("line", "is_refused"),
    [
        ('pip install "aiorest-ws[auth]"', True),
        ("pip install aiorest-ws[auth]", True),
        ("python3 -m pip install -q aiorest-ws", True),
        ("pip install aiorest_ws", True),
        ('pip install\n"aiorest-ws[redis]"', True),
        ("pip install pytest aiorest-ws", True),
        ('pip install ".[auth]"', False),
        ('pip install -e "/path/to/aiorest-ws[auth]"', False),
        ("pip install . && python3 -m aiorest_ws demo", False),
        ("pip install .\naiorest-ws demo", False),
    ],
)
def test_an_install_line_that_takes_the_package_from_the_index_is_found(line, is_refused):
    assert bool(INDEX_INSTALL.search(line)) is is_refused


def test_nothing_is_installed_from_the_index():
    # Version 2.0 is not published; what the index has under this name is unrelated to it.
    sources = [
        path
        for folder in ("aiorest_ws", "networkpype", "twisted", "examples", "bench", "docs")
        for path in (ROOT / folder).rglob("*.py")
    ]
    found = [
        (page_id(path), line)
        for path in (*WRITTEN_BY_HAND, ROOT / "CHANGELOG.md", *sources)
        for line in INDEX_INSTALL.findall(path.read_text(encoding="utf-8"))
    ]
    assert found == []
