"""What entries of a keys file say against each other, in the tree as written, whatever else is wrong."""

from __future__ import annotations

import re

from gateway.auth.key_format import ID_PATTERN
from gateway.config.check_routes import check_routes
from gateway.config.problems import Mistakes
from gateway.config.tree import Node

_ID = re.compile(ID_PATTERN)


def check_keys(root: Node, mistakes: Mistakes) -> None:
    """Note every contradiction."""
    keys = root.at("keys")
    entries = [] if keys is None else keys.items
    _ids(entries, mistakes)
    by_name: dict[str, list[Node]] = {}
    for entry in entries:
        if text := entry.text_at("name"):
            by_name.setdefault(text, []).append(entry)
    for namesakes in by_name.values():
        _rotation(namesakes, mistakes)
    for entry in entries:
        _limits(entry, mistakes)


def _ids(entries: list[Node], mistakes: Mistakes) -> None:
    first: dict[str, int] = {}
    for entry in entries:
        if text := entry.text_at("id"):
            line, path = entry.place_of("id")
            if text in first:
                message = f"another key, in line {first[text]}, has it already: remove one of them"
                mistakes.add(line, path, message)
            first.setdefault(text, line)


def _rotation(namesakes: list[Node], mistakes: Mistakes) -> None:
    """Entries that share a name are one caller's keys: each but the newest says which one took its place."""
    ids = {entry.text_at("id") for entry in namesakes}
    newest = [entry for entry in namesakes if entry.at("replaced_by") is None]
    for entry in newest[1:]:
        line, path = entry.place_of("name")
        other, _ = newest[0].place_of("name")
        message = (
            f"another key, in line {other}, has it already: write another one, or replaced_by in the older"
        )
        mistakes.add(line, path, message)
    for entry in namesakes:
        successor = entry.text_at("replaced_by")
        if successor is None or not _ID.fullmatch(successor):
            continue
        line, path = entry.place_of("replaced_by")
        if successor not in ids - {entry.text_at("id")}:
            message = "names no other key of this name: write the id of the one that took its place, or leave it out"
            mistakes.add(line, path, message)
        elif not newest:
            mistakes.add(line, path, "goes in a circle: leave it out in the newest key of this name")


def _limits(entry: Node, mistakes: Mistakes) -> None:
    """A key's limits are those of a route, but for `by`: the check of routes sees nothing else of the entry."""
    limits = entry.at("limits")
    if limits is None:
        return
    as_route = Node(entry.path, entry.line, {"limits": limits})
    check_routes(Node("", 1, {"routes": Node("", 1, [as_route])}), mistakes)
    for limit in limits.items:
        if limit.at("by") is not None:
            line, path = limit.place_of("by")
            message = "says nothing here, as these count the key with all its sessions: leave it out"
            mistakes.add(line, path, message)
