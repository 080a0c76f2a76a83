"""Changes the text of a keys file where it must change and nowhere else, so that comments and layout stay.

The text was read and found right before. What the edit made of it is proved by `keys_store`, which reads it
again before it takes the file's place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import yaml

from gateway.auth.keys_model import KeyEntry, format_moment
from gateway.config import Limit
from gateway.config.tree import Kind, plain_scalar
from gateway.config.units import format_duration

HEADER = """\
# API keys of Flowise Gateway: hashes only, never a key. `flowise-gateway keys` writes here; so may you, also while
# the gateway runs: it takes a changed file within 2 s, and keeps what it has while the file has a mistake.
"""
_COMMENT = re.compile(r"[ \t]*(#.*)?")
_SAFE = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


class Draft:
    """A keys file that is being changed: its entries, and its text to be written.

    Attributes:
        entries: as they are to be, in the order of the file.
        text: the whole file as it is to be; empty if there is none.
    """

    def __init__(self, text: str, entries: Sequence[KeyEntry]) -> None:
        self.text = text
        self.entries = tuple(entries)

    def add(self, entry: KeyEntry) -> None:
        """Write a new entry behind the last one."""
        root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        if not self.entries:
            self.text = _without_content(self.text) + "keys:\n" + _entry(entry, indent=2)
        else:
            keys = _value(root, "keys")
            at = _line_end(self.text, _end(keys.value[-1]))
            self._insert(at, _entry(entry, keys.start_mark.column))
        self.entries = (*self.entries, entry)

    def put(self, key_id: str, **values: str | float) -> None:
        """Write values of an entry, over those it has; a float is a time in seconds since the epoch."""
        for key, value in values.items():
            self._put(key_id, key, format_moment(value) if isinstance(value, float) else _scalar(value))
        self.entries = tuple(
            entry.model_copy(update=values) if entry.id == key_id else entry for entry in self.entries
        )

    def _put(self, key_id: str, key: str, written: str) -> None:
        node = self._entry_node(key_id)
        old = next((value for name, value in node.value if name.value == key), None)
        if old is not None:
            self.text = self.text[: old.start_mark.index] + written + self.text[old.end_mark.index :]
        elif node.flow_style:
            self._insert(node.end_mark.index - 1, f", {key}: {written}")
        else:
            at = _line_end(self.text, _end(node))
            self._insert(at, f"{' ' * node.start_mark.column}{key}: {written}\n")

    def _insert(self, at: int, text: str) -> None:
        before = self.text[:at]
        is_within_line = text.endswith("\n") and before and not before.endswith("\n")
        self.text = before + ("\n" if is_within_line else "") + text + self.text[at:]

    def _entry_node(self, key_id: str) -> yaml.MappingNode:
        root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        entries: list[yaml.MappingNode] = _value(root, "keys").value
        return next(entry for entry in entries if _value(entry, "id").value == key_id)


def _value(mapping: yaml.Node | None, key: str) -> yaml.Node:
    pairs: list[tuple[yaml.Node, yaml.Node]] = mapping.value if mapping else []
    return next(value for name, value in pairs if name.value == key)


def _end(node: yaml.Node) -> int:
    """Where the last value ends that was written; a block's own end lies behind the comments after it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return int(node.end_mark.index)


def _line_end(text: str, index: int) -> int:
    """Where the next line begins."""
    return text.find("\n", index) + 1 or len(text)


def _without_content(text: str) -> str:
    """The comments of a file without entries; a file that is new has a header instead."""
    if not text.strip():
        return HEADER
    return "".join(f"{line}\n" for line in text.splitlines() if _COMMENT.fullmatch(line))


def _entry(entry: KeyEntry, indent: int) -> str:
    lines = [f"{key}: {value}" for key, value in _pairs(entry)]
    return "".join(f"{' ' * indent}{'  ' if number else '- '}{line}\n" for number, line in enumerate(lines))


def _pairs(entry: KeyEntry) -> Iterator[tuple[str, str]]:
    yield "id", _scalar(entry.id)
    yield "name", _scalar(entry.name)
    yield "hash", entry.hash
    yield "created", format_moment(entry.created)
    if entry.expires is not None:
        yield "expires", format_moment(entry.expires)
    if entry.routes:
        yield "routes", f"[{', '.join(map(_scalar, entry.routes))}]"
    if entry.limits:
        yield "limits", f"[{', '.join(map(_limit, entry.limits))}]"


def _limit(limit: Limit) -> str:
    written = [f"name: {_scalar(limit.name)}"]
    for key in ("requests", "tokens", "concurrent", "per", "burst", "reserve"):
        if key in limit.model_fields_set:
            value = getattr(limit, key)
            written.append(f"{key}: {format_duration(value) if key == 'per' else value}")
    return "{" + ", ".join(written) + "}"


def _scalar(text: str) -> str:
    """The text plain where YAML takes it for text, else in quotes; names and ids have nothing to be escaped."""
    is_plain = _SAFE.fullmatch(text) and plain_scalar(text).kind is Kind.TEXT
    return text if is_plain else f'"{text}"'
