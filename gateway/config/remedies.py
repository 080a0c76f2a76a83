"""What to write, in a form that can be copied to the place that the message is about (pure)."""

from __future__ import annotations

import re

from gateway.config.tree import Node

ISSUER = (
    'jwt: [{issuer: "https://id.example.com", audience: chat, jwks_url: "https://id.example.com/jwks.json"}]'
)
SHARED_STORE = "store: redis://127.0.0.1:6379/0"
RANDOM = "`openssl rand -hex 32`"
_SECRET = re.compile(r"auth\.secret(\[[0-9]+\])?|admin\.token")
_MAY_BE_EMPTY = re.compile(r"\.(api_key|public_url|ca|keys_file|file|routes_claim|vars\..+|vars\[.+\])$")
_LEADING = re.compile(r"(?:^|: )write (\w+)(?=:|,|$)")
_FURTHER = re.compile(r" and (\w+): \S+")


def entry_in(root: Node, section: str, entry: str, at: str = "") -> str:
    """An entry of a top-level section as its author has to write it, with the place if that is another one.

    Args:
        root: the tree.
        section: the name of the section.
        entry: key and value.
        at: the path of the mapping that the message is about.
    """
    key = entry.partition(":")[0]
    if root.at(section) is None:
        return f"{section}: {{{entry}}} at the top level"
    if at == section:
        return entry
    written = root.at(section, key)
    place = f"place of the {key} in line {written.line}" if written else f"the top-level section {section}"
    return f"{entry} in {place}"


def without_present(said: str, mapping: Node) -> str:
    """The advice "write KEY: … and KEY: …" for a mapping that may have these keys already."""
    said = _FURTHER.sub(lambda found: "" if found[1] in mapping.entries else found[0], said)
    leading = _LEADING.search(said)
    return present(leading[1], mapping) if leading and leading[1] in mapping.entries else said


def present(key: str, mapping: Node) -> str:
    """The advice for another name of a key that the mapping has."""
    return f"remove it, {key} is in line {mapping.entries[key].line} already"


def for_unset(path: str) -> str:
    """The advice for a variable that is not set, by the key that has it; empty where the value may be empty."""
    if _SECRET.fullmatch(path):
        return f"set it, for example to the output of {RANDOM}"
    return "" if _MAY_BE_EMPTY.search(path) else "set it"
