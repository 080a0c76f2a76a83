"""Keys files for tests: keys that are the same in every run, and their entries."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

from gateway.auth.key_format import hash_of, make_key, parse_key

CREATED = "2026-01-31T08:00:00Z"
NOW = 1_769_846_400.0  # the same, in seconds since the epoch


@cache
def key(number: int) -> str:
    return make_key(random.Random(number).choice)


def key_id(number: int) -> str:
    return parse_key(key(number))


def entry(number: int, name: str = "", **values: str) -> str:
    """The entry of a key, by default with the name `name<number>`; values are written as they are."""
    pairs = {"id": f'"{key_id(number)}"', "name": name or f"name{number}", "hash": hash_of(key(number))}
    lines = [f"{name}: {value}" for name, value in (pairs | {"created": CREATED} | values).items()]
    return "  - " + "\n    ".join(lines) + "\n"


def keys_text(*entries: str) -> str:
    return "keys:\n" + "".join(entries)


def write_keys(path: Path, *entries: str) -> Path:
    """Write a keys file that only its owner can read."""
    path.write_text(keys_text(*entries))
    path.chmod(0o600)
    return path
