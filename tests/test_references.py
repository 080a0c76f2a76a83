"""Every reference leads somewhere: links, file names and captures; and the words are those of the field."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = {".py", ".lua", ".md", ".mjs", ".cjs", ".toml", ".yml", ".yaml", ".json", ".sh", ".service", ""}
# a file that is named, in any text, by a suffix that only files of this repository have
FILE = re.compile(r"(?<![\w/.*<>$-])((?:[\w.*-]+/)*[\w*-]+\.(?:py|md|lua|mjs|cjs|sh|raw))\b(?![\w(])")
# a path, in backticks, that begins with one of our folders
PATH = re.compile(r"`((?:gateway|tests|config|deploy|\.ci)/[\w./*-]*)`")
FORBIDDEN = re.compile(r"\b(rooms?|the house|walks?)\b", re.IGNORECASE)
ELSEWHERE = re.compile(r"\b(?:DESIGN|REDESIGN|PROTOCOL|MECHANICS|CONVENTIONS|(?:REAL|STYLE)\.md)\b")


@cache
def files() -> tuple[Path, ...]:
    """What belongs to the project: no environment, no cache, nothing of Git."""

    def is_ours(path):
        folders = path.relative_to(ROOT).parts[:-1]
        return not [
            name for name in folders if name == "__pycache__" or (name.startswith(".") and name != ".ci")
        ]

    return tuple(path for path in sorted(ROOT.rglob("*")) if path.is_file() and is_ours(path))


@cache
def names() -> frozenset[str]:
    """Every file and folder, by each end of its path that begins at a slash."""
    found = set()
    for path in files():
        parts = path.relative_to(ROOT).parts
        found |= {"/".join(parts[begin:]) for begin in range(len(parts))}
        for depth in range(1, len(parts)):
            found |= {"/".join(parts[begin:depth]) for begin in range(depth)}
    return frozenset(found)


def is_there(reference: str, folder: Path) -> bool:
    """Whether a text in this folder can mean a file or folder by this name."""
    if reference.startswith("."):
        return (folder / reference).exists() or (ROOT / reference).exists()
    reference = reference.rstrip("/")
    if "*" in reference:
        pattern = re.compile(re.escape(reference).replace(r"\*", "[^/]*"))
        return any(pattern.fullmatch(name) for name in names())
    return reference in names()


def documents() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_document = pytest.mark.parametrize("path", documents(), ids=relative)
each_source = pytest.mark.parametrize(
    "path",
    [path for path in files() if path.suffix == ".py" and path.is_relative_to(ROOT / "gateway")],
    ids=relative,
)


def prose_of(path: Path) -> str:
    """What a file says to people: the docstrings and comments of Python, the whole of everything else."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    said = [
        ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, documented)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    said += [token.string for token in tokens if token.type == tokenize.COMMENT]
    return "\n".join(said)


def anchor_of(heading: str) -> str:
    """The fragment that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@each_document
def test_links_lead_to_a_file_and_to_a_heading_in_it(path):
    for target, fragment in re.findall(
        r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)", path.read_text()
    ):
        file = path.parent / target if target else path
        assert file.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert fragment in map(anchor_of, headings), f"{target}#{fragment}"


@pytest.mark.parametrize("folder", ["gateway", "tests", "config", "deploy", "."])
def test_files_that_are_named_exist(folder):
    paths = (
        [path for path in files() if relative(path).startswith(f"{folder}/")]
        if folder != "."
        else documents()
    )
    lost = {}
    for path in paths:
        if path.suffix in (".py", ".md", ".lua", ".yml"):
            text = re.sub(r"https?://\S+", "", prose_of(path))
            named = [*FILE.findall(text), *PATH.findall(text)]
            if missing := [name for name in named if not is_there(name, path.parent)]:
                lost[relative(path)] = missing
    assert not lost


def test_captures_that_are_named_exist():
    """The last column of each table with captures, and each name that follows the word "capture"."""
    captures = {path.stem for path in (ROOT / "tests" / "captures").rglob("*.*") if path.suffix != ".md"}
    text = (ROOT / "gateway" / "flowise" / "README.md").read_text()
    named, is_table_of_captures = set(), False
    for before, line in pairwise(["", *text.splitlines()]):
        if line.startswith("|") and not before.startswith("|"):
            is_table_of_captures = line.endswith("| captures |")
        elif line.startswith("|") and is_table_of_captures:
            named |= set(re.findall(r"`([^`]+)`", line.strip("|").rsplit("|", 1)[1]))
    for listed in re.findall(r"\bcaptures?\s((?:`[^`]+`(?:,\s)?)+)", text):
        named |= set(re.findall(r"`([^`]+)`", listed))
    assert len(named) > 50
    assert named <= captures


def test_no_text_refers_to_a_document_that_is_not_here():
    found = {
        relative(path): match[0]
        for path in files()
        if path != Path(__file__) and path.suffix in SOURCE and "captures" not in path.parts
        if (match := ELSEWHERE.search(path.read_text(errors="replace")))
    }
    assert not found


def test_no_coined_word_is_left():
    paths = [path for path in files() if path.is_relative_to(ROOT / "gateway") or path in documents()]
    found = {
        f"{relative(path)}:{number}": match[0]
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := FORBIDDEN.search(line))
    }
    assert not found


@each_source
def test_a_docstring_says_more_than_three_words(path):
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    short = [text for node in nodes if (text := ast.get_docstring(node)) and len(text.split()) <= 3]
    assert not short


def test_no_class_has_the_name_of_another():
    classes = Counter(
        node.name
        for path in (ROOT / "gateway").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert not {name: count for name, count in classes.items() if count > 1}
