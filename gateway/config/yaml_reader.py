"""From a YAML file to a tree with line numbers; what the keys mean is not known here.

The file is read event by event, so that duplicate keys, aliases, tags and depth are refused before anything is built.
libyaml parses 12 times as fast as Python; a file that it refuses is parsed again in Python for the message and line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import yaml

from gateway.config.placeholders import Environment, expand
from gateway.config.problems import Mistakes, join_path, quote
from gateway.config.tree import UNWANTED, Node, Scalar, ScalarKind, plain_scalar, quoted_scalar

LARGEST_FILE = 1024 * 1024
DEEPEST = 32
_HINTS = {
    "mapping values are not allowed here": "put a value with a colon in quotes, or fix the indentation",
    "could not find expected ':'": "write a colon and a space after the key, or fix the indentation",
    "found character '\\t' that cannot start any token": "indent with spaces, not with tabs",
    "expected ',' or ']', but got '{'": "put ${NAME} in quotes inside [ ]",
    "expected ',' or '}', but got '{'": "put ${NAME} in quotes inside { }",
    "found unexpected end of stream": "close the quote or the bracket",
}


class _TooDeepError(Exception):
    """Ends the parsing of a file."""


def read_tree(
    path: Path, environ: Mapping[str, str], mistakes: Mistakes, largest: int = LARGEST_FILE
) -> Node | None:
    """The tree of a file of at most `largest` bytes; None if there is none, which is noted as a mistake."""
    content = _content(path, mistakes, largest)
    return (
        None if content is None else parse_tree(content, Environment(environ, path.parent), mistakes, largest)
    )


def parse_tree(
    content: bytes, environment: Environment, mistakes: Mistakes, largest: int = LARGEST_FILE
) -> Node | None:
    """As `read_tree`, of the content of a file; of a larger one at least one byte more than `largest`."""
    text = _text(content, mistakes, largest)
    if text is None:
        return None
    root = _parse(text, environment, mistakes)
    if root is not None and not isinstance(root.value, dict):
        is_nothing = isinstance(root.value, Scalar) and root.value.kind is ScalarKind.EMPTY
        what = "is empty" if is_nothing else "is not a mapping"
        mistakes.add(root.line, "", f"the file {what}: write at least the keys upstreams and routes")
        return None
    return root


def _content(path: Path, mistakes: Mistakes, largest: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(largest + 1)
    except OSError as error:
        mistakes.add(1, "", f"the file cannot be read ({error.strerror}): name a readable YAML file")
        return None
    except ValueError:
        mistakes.add(1, "", "the file cannot be read: write a name without a NUL character")
        return None


def _text(content: bytes, mistakes: Mistakes, largest: int) -> str | None:
    if len(content) > largest:
        mistakes.add(1, "", f"the file is larger than {largest // 1024**2}MiB: make it smaller")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        mistakes.add(line, "", "the file is not UTF-8: save it as UTF-8 text")
        return None


def _parse(text: str, environment: Environment, mistakes: Mistakes) -> Node | None:
    if yaml.__with_libyaml__:
        found = Mistakes(mistakes.file)
        try:
            root = _Builder(yaml.CSafeLoader(text), environment, found).document()
        except (yaml.YAMLError, _TooDeepError):
            pass  # parsed again below
        else:
            mistakes.add_all(found)
            return root
    try:
        return _Builder(yaml.SafeLoader(text), environment, mistakes).document()
    except _TooDeepError:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or "it ends too early"
        hint = _HINTS.get(problem, "write `key: value` on each line, what belongs to a key indented below it")
        mistakes.add(mark.line + 1 if mark else 1, "", f"this is not YAML ({problem}): {hint}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        mistakes.add(line, "", "there is a control character here: remove it")
    return None


class _Builder:
    """Builds one document from the events of a parser."""

    def __init__(
        self, loader: yaml.SafeLoader | yaml.CSafeLoader, environment: Environment, mistakes: Mistakes
    ) -> None:
        self._loader = loader
        self._environment = environment
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
            self._mistakes.add(_line(after), "", "a second document starts here: keep one, without ---")
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
            self._mistakes.add(line, "", f"nested deeper than {DEEPEST} levels: no key is that deep")
            raise _TooDeepError
        if isinstance(event, yaml.MappingStartEvent):
            node = Node(path, line, self._mapping(path, depth))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(path, line, self._sequence(path, depth))
        elif isinstance(event, yaml.ScalarEvent):
            node = Node(path, line, self._scalar(event, path, line))
        else:
            self._mistakes.add(line, path, "aliases (*name) are not supported: repeat the value")
            return Node(path, line, _BROKEN)
        if not isinstance(event, yaml.AliasEvent) and event.tag is not None:
            message = "tags (!name) are not supported: leave the tag out, and put text in quotes"
            self._mistakes.add(line, path, message)
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
                self._mistakes.add(line, value.path, f"the key is in line {first} too: keep one of them")
            else:
                entries[key] = value
        return entries

    def _key(self, event: yaml.Event, path: str) -> str | None:
        """The text of a key; None if it is not valid, which is noted as a mistake."""
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            self._skip(event)
            self._mistakes.add(line, path, "a key is a list, a mapping or an alias: write a plain name")
        elif event.value == "<<":
            message = "merge keys are not supported: write what routes share in `defaults`"
            self._mistakes.add(line, join_path(path, "<<"), message)
        elif event.tag is not None or UNWANTED.search(event.value):
            self._mistakes.add(line, path, f"the key {quote(event.value)} is not valid: write a plain name")
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
        expanded = expand(scalar.text, self._environment)
        for problem in expanded.problems:
            self._mistakes.add(line, path, problem)
        if UNWANTED.search(expanded.text):
            self._mistakes.add(line, path, "has a control character or an unpaired surrogate: remove it")
            return _BROKEN
        if expanded.problems:
            return _BROKEN
        if "${" in scalar.text:
            return Scalar(expanded.text, ScalarKind.EXPANDED, scalar.text)
        return scalar


_BROKEN = Scalar("", ScalarKind.BROKEN, "")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
