"""Contents of a keys file that are dear to read, or no text at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.harness.key_files import entry, key, keys_text
from tests.hostile.corpus.requests import KIB, MIB, repeated

ONE = keys_text(entry(1)).encode()
LARGE = 2 * MIB - KIB  # just within the bound


@dataclass(frozen=True)
class HostileFile:
    """A content, and what the log says of it; empty: that its keys were loaded."""

    make: Callable[[], bytes]
    says: str = ""


def _file(before: bytes, unit: bytes, size: int, after: bytes, says: str = "") -> HostileFile:
    return HostileFile(repeated(before, unit, size - len(before) - len(after), after), says)


LIMITS = "[{name: day, tokens: 200000, per: 1d}, {name: minute, requests: 60, per: 60s}]"


def _with_everything(number: int) -> str:
    routes, expires = "[support, sales]", "2036-01-31T08:00:00Z"
    return entry(number, f"customer-{number:05d}", routes=routes, expires=expires, limits=LIMITS)


MANY_KEYS = {
    "as many keys as it may hold": HostileFile(
        lambda: keys_text(*(entry(n) for n in range(12_000))).encode()
    ),
    "6,000 keys with everything": HostileFile(
        lambda: keys_text(*map(_with_everything, range(6000))).encode()
    ),
}
SIZES = {
    "100 MiB": _file(ONE, b"# comment\n", 100 * MIB, b"", "larger than 2MiB"),
    "a million lines": _file(ONE, b"\n", MIB, b""),
    "a million values": _file(b"keys:\n", b" - a\n", LARGE, b"", "more than 125000 values"),
    "lines of 1 MiB": _file(ONE, b"# " + b"x" * MIB + b"\n", LARGE, b""),
    "one line": _file(ONE + b"# ", b"x", LARGE, b""),
    "comments": _file(ONE, b"#\n", LARGE, b""),
    "a name of 1 MiB": HostileFile(lambda: ONE.replace(b"name1", b"n" * MIB), "longer than 65536 characters"),
    "a text of 2 MiB": _file(b'keys: "', b"x ", LARGE, b'"', "longer than 65536 characters"),
    "escapes": _file(b'keys: "', b"\\u0041", LARGE, b'"', "longer than 65536 characters"),
    "placeholders": _file(b"keys: '", b"${A}", LARGE, b"'", "longer than 65536 characters"),
    "placeholders in many texts": _file(
        b"keys:\n", b"- '" + b"${A}" * 15 * KIB + b"'\n", LARGE, b"", "environment variable A is not set"
    ),
    "keys in place of a name": _file(ONE, b"    # " + key(1).encode() + b"\n", LARGE, b""),
}
BYTES = {
    "NUL bytes": _file(ONE, b"\0", MIB, b"", "control character"),
    "nothing but NUL bytes": _file(b"", b"\0", MIB, b"", "UTF-16 or UTF-32"),
    "not UTF-8 at the end": _file(ONE + b"# ", "é".encode(), LARGE, b"\xff", "not UTF-8"),
    "UTF-16": HostileFile(lambda: ONE.decode().encode("utf-16"), "UTF-16 or UTF-32"),
    "half a surrogate pair": HostileFile(lambda: ONE.replace(b"name1", b'"\\ud83d"'), "surrogate"),
}
STRUCTURES = {
    "the same key": _file(b"keys:\n", entry(1).encode(), MIB, b"", "has the same id"),
    "the same name": HostileFile(
        lambda: keys_text(*(entry(n, "a") for n in range(5000))).encode(), "same name"
    ),
    "one name, all replaced": HostileFile(
        lambda: keys_text(*(entry(n, "a", replaced_by='"00000000"') for n in range(5000))).encode(),
        "not the id of another key",
    ),
    "the same member": _file(ONE, b"    name: x\n", 512 * KIB, b"", "is in line 3 too"),
    "aliases": _file(b"keys: [&a 1,", b"*a,", LARGE, b"1]", "aliases"),
    "flow sequences": _file(b"keys: [", b"[],", LARGE, b"1]", "more than 125000 values"),
    "pairs in flow": _file(b"keys: {", b"a,", 512 * KIB, b"b}", "more than 125000 values"),
    "deep in flow": _file(b"keys: ", b"[", LARGE, b"", "maximum nesting depth"),
    "deep by indentation": HostileFile(
        lambda: b"keys:\n" + b"".join(b" " * n + b"-\n" for n in range(1, 1000)), "nested deeper"
    ),
    "colons": _file(b"", b"a: ", LARGE, b"", "quotes"),
    "questions": _file(b"", b"? ", LARGE, b"", "not YAML"),
    "quotes": _file(b"keys: ", b'"', LARGE, b"", "not YAML"),
    "documents": _file(b"", b"---\n", 512 * KIB, b""),
    "instructions": _file(b"", b"%YAML 1.1\n", LARGE, b"", "an instruction"),
    "a mistake behind many keys": HostileFile(
        lambda: keys_text(*(entry(n) for n in range(2000))).encode() + b"\t- x: [", "tab"
    ),
}
TABLE = {**MANY_KEYS, **SIZES, **BYTES, **STRUCTURES}
