"""From a YAML file to a tree with line numbers; what the keys mean is not known here.

libyaml reads it a dozen times as fast; what it cannot read is read once more in Python, for the words of the mistake.

Read event by event, so that duplicate keys, aliases, tags and depth are seen before anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import yaml

from gateway.config.placeholders import Environment, expand
from gateway.config.problems import Mistakes, join_path, quote
from gateway.config.tree import Kind, Node, Scalar, plain_scalar, quoted_scalar

LARGEST_FILE = 1024 * 1024
DEEPEST = 32
_UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_HINTS = {
    "mapping values are not allowed here": "put a value with a colon in quotes, or mend the indentation",
    "could not find expected ':'": "a colon and a blank are missing after a key, or the indentation is wrong",
    "found character '\\t' that cannot start any token": "indent with blanks, not with tabs",
    "expected ',' or ']', but got '{'": "inside [ ] a ${NAME} stands in quotes",
    "expected ',' or '}', but got '{'": "inside { } a ${NAME} stands in quotes",
    "found unexpected end of stream": "a quote or a bracket is not closed",
}


class _TooDeepError(Exception):
    """Reading stops here."""


def read_tree(
    path: Path, environ: Mapping[str, str], mistakes: Mistakes, largest: int = LARGEST_FILE
) -> Node | None:
    """The tree of a file of at most `largest` bytes; None if there is nothing to look at, which is then a mistake."""
    text = _text(path, mistakes, largest)
    if text is None:
        return None
    root = _parse(text, Environment(environ, path.parent), mistakes)
    if root is not None and not isinstance(root.value, dict):
        is_nothing = isinstance(root.value, Scalar) and root.value.kind is Kind.EMPTY
        what = "is empty" if is_nothing else "is no mapping"
        mistakes.add(root.line, "", f"the file {what}: write at least the keys upstreams and routes")
        return None
    return root


def _text(path: Path, mistakes: Mistakes, largest: int) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        mistakes.add(1, "", f"the file cannot be read ({error.strerror}): name a readable YAML file")
        return None
    except ValueError:
        mistakes.add(1, "", "the file cannot be read: a file name has no NUL")
        return None
    if len(content) > largest:
        mistakes.add(1, "", f"the file is larger than {largest // 1024**2}MiB: it must be smaller")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        mistakes.add(line, "", "the file is not UTF-8: save it as UTF-8 text")
        return None


def _parse(text: str, outside: Environment, mistakes: Mistakes) -> Node | None:
    if yaml.__with_libyaml__:
        found = Mistakes(mistakes.file)
        try:
            root = _Builder(yaml.CSafeLoader(text), outside, found).document()
        except (yaml.YAMLError, _TooDeepError):
            pass  # once more below, whose words and places we know
        else:
            mistakes.add_all(found)
            return root
    try:
        return _Builder(yaml.SafeLoader(text), outside, mistakes).document()
    except _TooDeepError:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or "something is unfinished"
        hint = _HINTS.get(problem, "compare with config/gateway.yaml")
        mistakes.add(mark.line + 1 if mark else 1, "", f"this is not YAML ({problem}): {hint}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        mistakes.add(line, "", "a control character stands here: remove it")
    return None


class _Builder:
    """Builds one document from the events of a parser."""

    def __init__(
        self, loader: yaml.SafeLoader | yaml.CSafeLoader, outside: Environment, mistakes: Mistakes
    ) -> None:
        self._loader = loader
        self._outside = outside
        self._mistakes = mistakes

    def document(self) -> Node:
        """The root; an empty file is an empty scalar."""
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return Node("", 1, plain_scalar(""))
        root = self._node(self._next(), "", None, 0)
        self._next()  # the document's end
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self._mistakes.add(_line(after), "", "a second document begins here: write one, without ---")
        return root

    def _next(self) -> yaml.Event:
        try:
            return cast(yaml.Event, self._loader.get_event())
        except (ValueError, OverflowError):  # chr() and int() of escapes and directives beyond all bounds
            mark = self._loader.get_mark() if isinstance(self._loader, yaml.SafeLoader) else None
            raise yaml.MarkedYAMLError(problem="a number is out of range", problem_mark=mark) from None

    def _node(self, event: yaml.Event, path: str, line: int | None, depth: int) -> Node:
        line = _line(event) if line is None else line
        if depth > DEEPEST:
            self._mistakes.add(line, "", f"nested deeper than {DEEPEST} levels: no key goes that deep")
            raise _TooDeepError
        if isinstance(event, yaml.MappingStartEvent):
            node = Node(path, line, self._mapping(path, depth))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(path, line, self._sequence(path, depth))
        elif isinstance(event, yaml.ScalarEvent):
            node = Node(path, line, self._scalar(event, path, line))
        else:
            self._mistakes.add(line, path, "aliases (*name) are not read here: write the value again")
            return Node(path, line, _BROKEN)
        if not isinstance(event, yaml.AliasEvent) and event.tag is not None:
            self._mistakes.add(
                line, path, "tags (!name) are not read here: leave it out, and quote what is text"
            )
            return Node(path, line, _BROKEN)
        return node

    def _mapping(self, path: str, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line, key = _line(event), self._key(event, path)
            if key is None:
                self._skip(self._next())
                continue
            value = self._node(self._next(), join_path(path, key), line, depth + 1)
            if key in entries:
                first = entries[key].line
                self._mistakes.add(
                    line, value.path, f"the key stands in line {first} already: keep one of them"
                )
            else:
                entries[key] = value
        return entries

    def _key(self, event: yaml.Event, path: str) -> str | None:
        """The text of a key; None for a key that cannot be one, which is then a mistake."""
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            self._skip(event)
            self._mistakes.add(line, path, "a key is a list, a mapping or an alias: write a plain name")
        elif event.value == "<<":
            message = "merge keys are not read here: what routes share belongs into `defaults`"
            self._mistakes.add(line, join_path(path, "<<"), message)
        elif event.tag is not None or _UNWANTED.search(event.value):
            self._mistakes.add(line, path, f"the key {quote(event.value)} cannot be one: write a plain name")
        else:
            return event.value
        return None

    def _skip(self, event: yaml.Event) -> None:
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return
            event = self._next()

    def _sequence(self, path: str, depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", None, depth + 1))
        return items

    def _scalar(self, event: yaml.ScalarEvent, path: str, line: int) -> Scalar:
        scalar = quoted_scalar(event.value) if event.style else plain_scalar(event.value)
        expanded = expand(scalar.text, self._outside)
        for problem in expanded.problems:
            self._mistakes.add(line, path, problem)
        if _UNWANTED.search(expanded.text):
            self._mistakes.add(line, path, "holds a control character or half a character: remove it")
            return _BROKEN
        if expanded.problems:
            return _BROKEN
        if "${" in scalar.text:
            return Scalar(expanded.text, Kind.EXPANDED, scalar.text)
        return scalar


_BROKEN = Scalar("", Kind.BROKEN, "")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
