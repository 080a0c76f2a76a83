"""From a YAML file to a tree with line numbers; what the keys mean is not known here.

The file is read event by event, so that duplicate keys, aliases, tags and depth are refused before anything is built.
libyaml parses 12 times as fast as Python; a file that it refuses is parsed again in Python, and `yaml_errors` explains
the mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, cast

import yaml
from msgspec.structs import replace

from gateway.config.placeholders import Environment, expand
from gateway.config.problems import EXAMPLE_CHATFLOW, INIT, Kind, Mistakes, join_path, quote
from gateway.config.remedies import for_unset
from gateway.config.tree import UNWANTED, Node, Scalar, ScalarKind, plain_scalar, quoted_scalar
from gateway.config.yaml_errors import TYPOGRAPHIC_QUOTES, explain, look_alike
from gateway.config.yaml_lines import path_at
from gateway.steps import step

LARGEST_FILE = 1024 * 1024
DEEPEST = 32
LONGEST_TEXT = 64 * 1024  # characters of a value; placeholders in it are expanded in one step
MOST_VALUES = 125_000  # of a file; each takes 15 µs and 500 bytes
LONGEST_PARSED_AGAIN = 256 * 1024  # characters; Python takes 12 times as long as libyaml
_LEAST = (
    '{upstreams: {main: {servers: [{url: "http://127.0.0.1:3000"}]}},'
    f" routes: [{{name: support, chatflow: {EXAMPLE_CHATFLOW}, upstream: main, auth: [api_key]}}]}},"
    f" or remove it and run {INIT}"
)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class _TooDeepError(Exception):
    """Ends the parsing of a file."""


class _TooManyError(Exception):
    """Ends the parsing of a file."""


class _UnreadableError(Exception):
    """The file cannot be read; the message says why."""


def read_tree(
    path: Path,
    environ: Mapping[str, str],
    mistakes: Mistakes,
    *,
    largest: int = LARGEST_FILE,
    stream: BinaryIO | None = None,
) -> Node | None:
    """The tree of a file; None if there is none, which is noted as a mistake.

    Args:
        path: the file; placeholders for files are relative to its folder.
        environ: where placeholders are looked up.
        mistakes: where mistakes are noted.
        largest: bytes; a larger file is a mistake.
        stream: read in place of the file.
    """
    try:
        content = _content(path, stream, largest)
    except _UnreadableError as error:
        mistakes.add(1, "", str(error))
        return None
    return parse_tree(content, Environment(environ, path.parent), mistakes, largest)


def parse_tree(
    content: bytes, environment: Environment, mistakes: Mistakes, largest: int = LARGEST_FILE
) -> Node | None:
    """As `read_tree`, of the content of a file, of which one byte more than `largest` is enough."""
    text = _text(content, mistakes, largest)
    if text is None:
        return None
    root = _parse(text, environment, mistakes)
    if root is not None and not isinstance(root.value, dict):
        is_nothing = isinstance(root.value, Scalar) and root.value.kind is ScalarKind.EMPTY
        what = "is empty" if is_nothing else "is not a mapping"
        mistakes.add(root.line, "", f"the file {what}: write at least {_LEAST}")
        return None
    return root


def _text(content: bytes, mistakes: Mistakes, largest: int) -> str | None:
    """The text of a file; None if it has none, which is noted."""
    if len(content) > largest:
        mistakes.add(1, "", f"the file is larger than {largest // 1024**2}MiB: make it smaller")
        return None
    if content.startswith(_UTF_16) or b"\0" in content[:2]:
        mistakes.add(1, "", "the file is UTF-16 or UTF-32: save it as UTF-8 text")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        mistakes.add(line, "", "the file is not UTF-8: save it as UTF-8 text")
    return None


def _content(path: Path, stream: BinaryIO | None, largest: int) -> bytes:
    """The content of a file; of a larger one, one byte more than `largest`.

    Raises:
        _UnreadableError: it cannot be read.
    """
    try:
        with path.open("rb") if stream is None else nullcontext(stream) as file:
            return file.read(largest + 1)
    except IsADirectoryError:
        raise _UnreadableError(f"this is a folder: name a file in it, like {path / 'gateway.yaml'}") from None
    except OSError as error:
        message = f"the file cannot be read ({error.strerror}): name a readable YAML file"
        message += f", or run {INIT}, which writes one" if isinstance(error, FileNotFoundError) else ""
        raise _UnreadableError(message) from None
    except ValueError:
        raise _UnreadableError("the file cannot be read: write a name without a NUL character") from None


def _parse(text: str, environment: Environment, mistakes: Mistakes) -> Node | None:
    if yaml.__with_libyaml__:
        found = Mistakes(mistakes.file)
        builder = _Builder(yaml.CSafeLoader(text), environment, found)
        try:
            root = builder.document()
        except (yaml.YAMLError, _TooDeepError) as error:
            if len(text) > LONGEST_PARSED_AGAIN:
                _note_refusal(text, error, builder, found)
                mistakes.add_all(found)
                return None
        except _TooManyError:
            mistakes.add_all(found)
            return None
        else:
            mistakes.add_all(found)
            return root
    try:
        builder = _Builder(yaml.SafeLoader(text), environment, mistakes)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        mistakes.add(line, "", "there is a control character here: remove it")
        return None
    try:
        return builder.document()
    except (yaml.MarkedYAMLError, _TooDeepError, _TooManyError) as error:
        _note_refusal(text, error, builder, mistakes)
    return None


def _note_refusal(text: str, error: Exception, builder: _Builder, mistakes: Mistakes) -> None:
    """Note why a parser refuses a text, unless that was noted where it was found."""
    if isinstance(error, yaml.MarkedYAMLError):
        line, message = explain(text, error)
        if line not in builder.odd_lines:
            path = builder.path_in(line) or path_at(text.splitlines(), line - 1)
            mistakes.add(line, path, message)
    elif isinstance(error, yaml.YAMLError):  # libyaml has read no further
        mistakes.add(1, "", "there is a control character in the file: remove it")


class _Builder:
    """Builds one document from the events of a parser."""

    def __init__(
        self, loader: yaml.SafeLoader | yaml.CSafeLoader, environment: Environment, mistakes: Mistakes
    ) -> None:
        self._loader = loader
        self._environment = environment
        self._mistakes = mistakes
        self._count = 0
        self.odd_lines: set[int] = set()  # with a key that is no plain name, which explains what follows
        self._begun: list[tuple[int, str]] = []  # line and path of each key, in the order of the text
        self._quoted_lines: list[tuple[int, str, int]] = []  # line, path and last line of texts in quotes

    def path_in(self, line: int) -> str:
        """The path of the last key that begins in a line; empty if none was read there."""
        return next((path for begun, path in reversed(self._begun) if begun == line), "")

    def document(self) -> Node:
        """The root; an empty file is an empty scalar."""
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return Node("", 1, plain_scalar(""))
        root = self._node(self._next(), "", None, 0)
        self._next()  # the document's end
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self._mistakes.add(_line(after), "", "--- starts a second document: remove this line")
            root = replace(root, is_partial=True)
        self._warn_of_lines()
        return root

    def _next(self) -> yaml.Event:
        try:
            return cast(yaml.Event, self._loader.get_event())
        except (ValueError, OverflowError):  # chr() and int() of escapes and directives beyond all bounds
            mark = self._loader.get_mark() if isinstance(self._loader, yaml.SafeLoader) else None
            raise yaml.MarkedYAMLError(problem="a number is out of range", problem_mark=mark) from None

    def _node(self, event: yaml.Event, path: str, line: int | None, depth: int) -> Node:
        line = _line(event) if line is None else line
        self._count += 1
        if self._count > MOST_VALUES:
            self._mistakes.add(line, "", f"the file has more than {MOST_VALUES} values: make it smaller")
            raise _TooManyError
        if depth > DEEPEST:
            self._mistakes.add(line, "", f"nested deeper than {DEEPEST} levels: no key is that deep")
            raise _TooDeepError
        if isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(path, line, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(path, line, self._sequence(path, depth))
        elif isinstance(event, yaml.ScalarEvent):
            node = Node(path, line, self._scalar(event, path, line))
            self._note_lines(event, path)
        else:
            self._mistakes.add(line, path, "aliases (*name) are not supported: repeat the value")
            return Node(path, line, _BROKEN)
        if not isinstance(event, yaml.AliasEvent) and event.tag is not None:
            message = "tags (!name) are not supported: leave the tag out, and put text in quotes"
            self._mistakes.add(line, path, message)
            return Node(path, line, _BROKEN)
        return node

    def _mapping(self, path: str, line: int, depth: int) -> Node:
        entries: dict[str, Node] = {}
        is_partial = False
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            step()
            begin, key = _line(event), self._key(event, path)
            if key is None:
                is_partial = True
                self._skip(self._next())
                continue
            self._begun.append((begin, join_path(path, key)))
            value = self._node(self._next(), join_path(path, key), begin, depth + 1)
            if key in entries:
                first = entries[key].line
                self._mistakes.add(begin, value.path, f"the key is in line {first} too: keep one of them")
            else:
                entries[key] = value
        return Node(path, line, entries, is_partial)

    def _key(self, event: yaml.Event, path: str) -> str | None:
        """The text of a key; None if it is not valid, which is noted as a mistake."""
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            self._skip(event)
            message = (
                'a key is a list, a mapping or an alias: write a plain name, or "${NAME}" for a variable'
            )
            self._mistakes.add(line, path, message)
        elif event.value == "<<":
            remedy = "write its keys here, or, for all routes, in a top-level section defaults"
            self._mistakes.add(line, path, f"`<<` is not supported: {remedy}")
        elif not event.style and (found := look_alike(event.value)):
            self.odd_lines.add(line)
            self._mistakes.add(line, path, f"the key {quote(event.value)} has a {found}")
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
        if len(event.value) > LONGEST_TEXT:
            message = f"is longer than {LONGEST_TEXT} characters: write a shorter text, or ${{file:/path}}"
            self._mistakes.add(line, path, message)
            return _BROKEN
        scalar = quoted_scalar(event.value) if event.style else plain_scalar(event.value)
        expanded = expand(scalar.text, self._environment, for_unset(path))
        for problem in expanded.problems:
            self._mistakes.add(line, path, problem, Kind.ABSENT if expanded.is_absent_only else Kind.WRONG)
        if not event.style and event.value[:1] in TYPOGRAPHIC_QUOTES:
            message = f"begins with a typographic quote, {event.value[:1]}: write straight quotes, \" or '"
            self._mistakes.add(line, path, message)
            return _BROKEN
        if UNWANTED.search(expanded.text):
            self._mistakes.add(line, path, "has a control character or an unpaired surrogate: remove it")
            return _BROKEN
        if expanded.problems:
            return _BROKEN
        if "${" in scalar.text:
            return Scalar(expanded.text, ScalarKind.EXPANDED, scalar.text)
        return scalar

    def _note_lines(self, event: yaml.ScalarEvent, path: str) -> None:
        if event.style in ("'", '"') and event.start_mark and event.end_mark:
            first, last = event.start_mark.line + 1, event.end_mark.line + 1
            if first != last:
                self._quoted_lines.append((first, path, last))

    def _warn_of_lines(self) -> None:
        """A quote that was forgotten is closed by that of a later value, and swallows the keys between them."""
        for first, path, last in self._quoted_lines:
            message = (
                f"the value is in quotes up to line {last}: close it in this line, or write the text with |"
            )
            self._mistakes.warn(first, path, message)


_BROKEN = Scalar("", ScalarKind.BROKEN, "")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
